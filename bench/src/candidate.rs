//! What is compared: how each is started, and what it is called.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// A function to be measured.
#[derive(Debug)]
pub struct Candidate {
    pub name: &'static str,
    /// The program and its arguments.
    pub command: Vec<PathBuf>,
    pub folder: PathBuf,
    /// What would be uploaded, for its size.
    pub zip: PathBuf,
    /// Whether it counts quotas.
    pub quotas: bool,
    /// Whether it mints at all.
    pub mints: bool,
}

/// The floor that everything is compared with.
pub const HELLO: &str = "lambda_http hello";
/// The release binary as it is shipped.
pub const MINT: &str = "mint";
/// The same with quotas on.
pub const MINT_WITH_QUOTAS: &str = "mint with quotas";
/// The system that is replaced.
pub const PYTHON: &str = "Python, requests.post";
/// Python, done well.
pub const PYTHON_KEPT: &str = "Python, kept session";
/// Node, done well.
pub const NODE: &str = "Node, fetch";

impl Candidate {
    /// All of them, below the root of the checkout and the folder that cargo builds into; the mint is the
    /// one at `bootstrap`. What is compared with it is made by `bench/peers/install`.
    pub fn all(root: &Path, target: &Path, bootstrap: &Path) -> Vec<Self> {
        let (peers, built) = (root.join("bench/peers"), target.join("bench/peers"));
        let one = |name, command: Vec<PathBuf>, folder: &Path, zip: &str| Self {
            name,
            command,
            folder: folder.to_owned(),
            zip: built.join(zip),
            quotas: false,
            mints: name != HELLO,
        };
        let python = |name, folder: &str, zip| {
            let python = root.join(".venv/bench/bin/python");
            one(name, vec![python, "-m".into(), "awslambdaric".into(), "app.handler".into()], &peers.join(folder), zip)
        };
        let node = which("node").unwrap_or_else(|| "node".into());
        let mint = || one(MINT, vec![bootstrap.to_owned()], root, "../mint.zip");
        vec![
            one(HELLO, vec![built.join("hello/release/hello")], root, "hello.zip"),
            mint(),
            Self { name: MINT_WITH_QUOTAS, quotas: true, ..mint() },
            python(PYTHON, "python-original", "python-original.zip"),
            python(PYTHON_KEPT, "python-kept", "python-kept.zip"),
            one(NODE, vec![node, peers.join("node/dist/index.mjs")], root, "node.zip"),
        ]
    }

    /// Why it cannot be run here, if it cannot.
    pub fn missing(&self) -> Option<String> {
        let needed = self.command.iter().filter(|part| part.is_absolute()).chain([&self.zip]);
        let missing: Vec<_> = needed.filter(|path| !path.exists()).map(|path| path.display().to_string()).collect();
        (!missing.is_empty()).then(|| format!("{} is not there", missing.join(", ")))
    }

    /// The size of what would be uploaded, in megabytes.
    pub fn zip_mb(&self) -> f64 {
        fs::metadata(&self.zip)
            .map(|zip| f64::from(u32::try_from(zip.len()).unwrap_or(u32::MAX)) / 1e6)
            .unwrap_or_default()
    }
}

fn which(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.exists())
}
