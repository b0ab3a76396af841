//! The program as people run it, and the README as they read it.
#![allow(clippy::unwrap_used, reason = "a test may fail in its helpers too")]
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_openai-simulator");
const README: &str = include_str!("../README.md");

/// A program that stops with its test, and what it says.
struct Running(Child, BufReader<ChildStdout>);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program on a free port; where it listens.
fn start() -> (Running, String) {
    let mut child = Command::new(PROGRAM).args(["--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running(child, output);
    let mut line = String::new();
    running.1.read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).and_then(|rest| rest.split("/v1").next()).unwrap();
    (running, address.to_owned())
}

/// The contents of the README's fences of this kind.
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
fn the_readme_s_commands_do_what_it_says() {
    let (_running, address) = start();
    let commands = fenced("sh");
    assert_eq!(commands.matches("curl ").count(), 5);
    let said = shell(&commands, &address);
    assert!(said.contains("\"value\":\"ek_") && said.contains("\"path\":\"/v1/realtime/client_secrets\""), "{said}");
}

#[test]
fn two_hosts_are_one_simulator() {
    let Ok(free) = std::net::TcpListener::bind("127.0.0.2:0") else {
        eprintln!("skipped: this machine has one loopback address only");
        return;
    };
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
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

#[cfg(not(feature = "calls"))]
#[test]
fn a_build_without_calls_refuses_each_offer_with_a_code_of_its_own() {
    let (_running, address) = start();
    let offer = "curl -sS -w '%{http_code}' localhost:8081/v1/realtime/calls -H 'Authorization: Bearer sk-1' \
                 -F 'session={\"type\": \"realtime\"}' -F sdp=v=0";
    let answer = shell(offer, &address);
    assert!(answer.ends_with("501") && answer.contains("calls_not_built_in"), "{answer}");
    assert!(README.contains("501 `calls_not_built_in`"));
}

#[test]
fn each_fault_in_the_readme_can_be_asked_for() {
    let (_running, address) = start();
    let faults: Vec<&str> = README
        .lines()
        .filter_map(|line| line.strip_prefix("| `{")?.split_once("}` |"))
        .map(|(fault, _)| fault)
        .collect();
    assert_eq!(faults.len(), 25);
    for fault in faults {
        shell(&format!("curl --fail -sS localhost:8081/simulator/faults --json '{{{fault}}}'"), &address);
    }
}

#[test]
fn the_usage_is_said_to_who_asks_and_to_who_errs() {
    let help = Command::new(PROGRAM).arg("--help").output().unwrap();
    let usage = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && help.stderr.is_empty());
    assert!(README.contains(&usage), "the README has another usage than:\n{usage}");
    let wrong = Command::new(PROGRAM).arg("--listen").output().unwrap();
    assert_eq!((wrong.status.code(), String::from_utf8(wrong.stderr).unwrap()), (Some(2), usage));
    assert!(wrong.stdout.is_empty());
    assert!(README.contains("\nopenai-simulator --port 8081\n"));
}
