//! The functions that are compared: their names, commands and zips.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// A function to measure.
#[derive(Debug)]
pub struct Candidate {
    pub name: &'static str,
    /// The program and its arguments.
    pub command: Vec<PathBuf>,
    pub folder: PathBuf,
    /// The file that would be uploaded to Lambda.
    pub zip: PathBuf,
    /// Whether it counts quotas.
    pub quotas: bool,
    /// What its answers contain.
    pub answers: Answers,
}

/// The successful answer of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answers {
    /// A text.
    Text,
    /// A token, for `POST /token`.
    Tokens,
    /// OpenAI's answer to an offer, for `POST /call`.
    Calls,
}

/// The baseline: a function that only answers.
pub const HELLO: &str = "lambda_http hello";
/// The release binary as shipped.
pub const MINT: &str = "mint";
/// The release binary with quotas on.
pub const MINT_WITH_QUOTAS: &str = "mint with quotas";
/// The release binary with quotas on, which makes calls.
pub const CALL: &str = "call";
/// The system that this project replaces.
pub const PYTHON: &str = "Python, requests.post";
/// Python with one kept connection.
pub const PYTHON_KEPT: &str = "Python, kept session";
/// Go's standard library with one kept connection.
pub const GO: &str = "Go, net/http";
/// Node with one kept connection.
pub const NODE: &str = "Node, fetch";

impl Candidate {
    /// All candidates, given the root of the checkout, cargo's target folder and the function's binary. The peers are built
    /// by `bench/peers/install`.
    pub fn all(root: &Path, target: &Path, bootstrap: &Path) -> Vec<Self> {
        let (peers, built) = (root.join("bench/peers"), target.join("bench/peers"));
        let candidate = |name, command: Vec<PathBuf>, folder: &Path, zip: &str| Self {
            name,
            command,
            folder: folder.to_owned(),
            zip: built.join(zip),
            quotas: false,
            answers: if name == HELLO { Answers::Text } else { Answers::Tokens },
        };
        let python = |name, folder: &str, zip| {
            let python = root.join(".venv/bench/bin/python");
            candidate(
                name,
                vec![python, "-m".into(), "awslambdaric".into(), "app.handler".into()],
                &peers.join(folder),
                zip,
            )
        };
        let node = which("node").unwrap_or_else(|| "node".into());
        let mint = || candidate(MINT, vec![bootstrap.to_owned()], root, "../mint.zip");
        vec![
            candidate(HELLO, vec![built.join("hello/release/hello")], root, "hello.zip"),
            mint(),
            Self { name: MINT_WITH_QUOTAS, quotas: true, ..mint() },
            Self { name: CALL, quotas: true, answers: Answers::Calls, ..mint() },
            python(PYTHON, "python-original", "python-original.zip"),
            python(PYTHON_KEPT, "python-kept", "python-kept.zip"),
            candidate(GO, vec![built.join("go/bootstrap")], root, "go.zip"),
            candidate(NODE, vec![node, peers.join("node/dist/index.mjs")], root, "node.zip"),
        ]
    }

    /// The reason why it cannot run on this machine, if there is one.
    pub fn missing(&self) -> Option<String> {
        let needed = self.command.iter().filter(|part| part.is_absolute()).chain([&self.zip]);
        let missing: Vec<_> = needed.filter(|path| !path.exists()).map(|path| path.display().to_string()).collect();
        (!missing.is_empty()).then(|| format!("missing: {}", missing.join(", ")))
    }

    /// The size of its zip, in megabytes.
    pub fn zip_mb(&self) -> f64 {
        fs::metadata(&self.zip)
            .map(|zip| f64::from(u32::try_from(zip.len()).unwrap_or(u32::MAX)) / 1e6)
            .unwrap_or_default()
    }
}

fn which(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.exists())
}
