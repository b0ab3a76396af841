//! The program from its command line, and the README's commands.
#![allow(clippy::unwrap_used, reason = "a test may fail in its helpers too")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_openai-simulator");
const README: &str = include_str!("../README.md");

/// A running program and its output. Dropping it stops the program.
struct Running(Child, BufReader<ChildStdout>);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program on a free port. Returns it, and the address that it listens on.
fn start() -> (Running, String) {
    let mut child = Command::new(PROGRAM).args(["--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running(child, output);
    let mut line = String::new();
    running.1.read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).and_then(|rest| rest.split("/v1").next()).unwrap();
    (running, address.to_owned())
}

/// The contents of all fenced blocks of this kind in the README.
fn fenced(kind: &str) -> String {
    let parts = README.split("\n```").enumerate().filter(|(at, _)| at % 2 == 1);
    parts
        .filter_map(|(_, part)| part.split_once('\n').filter(|(name, _)| *name == kind))
        .map(|(_, code)| code)
        .collect()
}

fn shell(commands: &str, address: &str) -> String {
    let commands = format!("set -euo pipefail\n{}", commands.replace("localhost:8081", address));
    let output = Command::new("bash").args(["-c", &commands]).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{commands}\n{out}{error}");
    out.into_owned()
}

#[test]
fn the_commands_of_the_readme_work() {
    let (_running, address) = start();
    let commands = fenced("sh");
    assert_eq!(commands.matches("curl ").count(), 6);
    let said = shell(&commands, &address);
    assert!(said.contains("\"value\":\"ek_") && said.contains("\"path\":\"/v1/realtime/client_secrets\""), "{said}");
}

#[test]
fn two_hosts_share_one_simulator() {
    if TcpListener::bind("127.0.0.2:0").is_err() {
        eprintln!("skipped: this machine has only one loopback address");
        return;
    }
    // Below the ports that the system picks itself: one that it picked can be another program's a moment later.
    let unused = |port: &u16| ["127.0.0.1", "127.0.0.2"].iter().all(|host| TcpListener::bind((*host, *port)).is_ok());
    let port = (20_000..32_000).rev().find(unused).unwrap().to_string();
    let hosts = ["--host", "127.0.0.1", "--host", "127.0.0.2", "--port", &port];
    let mut child = Command::new(PROGRAM).args(hosts).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    let _running = Running(child, output);
    let fault = "curl --fail -sS localhost:8081/simulator/faults --json '{\"fault\": \"not-found\"}'";
    shell(fault, &format!("127.0.0.2:{port}"));
    let mint = "curl -sS localhost:8081/v1/realtime/client_secrets -H 'Authorization: Bearer sk-1' --json '{}'";
    assert!(shell(mint, &format!("127.0.0.1:{port}")).contains("model_not_found"));
}

#[test]
fn every_fault_in_the_readme_can_be_planned() {
    let (_running, address) = start();
    let faults: Vec<&str> = README
        .lines()
        .filter_map(|line| line.strip_prefix("| `{")?.split_once("}` |"))
        .map(|(fault, _)| fault)
        .collect();
    assert_eq!(faults.len(), 31);
    for fault in faults {
        shell(&format!("curl --fail -sS localhost:8081/simulator/faults --json '{{{fault}}}'"), &address);
    }
}

#[test]
fn help_and_a_wrong_option_print_the_usage_of_the_readme() {
    let help = Command::new(PROGRAM).arg("--help").output().unwrap();
    let usage = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && help.stderr.is_empty());
    assert!(README.contains(&usage), "the README does not contain the usage:\n{usage}");
    let wrong = Command::new(PROGRAM).arg("--listen").output().unwrap();
    assert_eq!((wrong.status.code(), String::from_utf8(wrong.stderr).unwrap()), (Some(2), usage));
    assert!(wrong.stdout.is_empty());
    assert!(README.contains("\nopenai-simulator --port 8081\n"));
}
