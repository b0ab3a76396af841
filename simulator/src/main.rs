//! `openai-simulator [--port PORT]`: the simulator as a program.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that speaks to a person")]

use std::{env, process::ExitCode};

use openai_simulator::Simulator;

const USAGE: &str = "usage: openai-simulator [--port PORT]   (default 8081, on 127.0.0.1)";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let port = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(8081),
        ["--port", port] => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let simulator = match Simulator::start_on(port).await {
        Ok(simulator) => simulator,
        Err(error) => {
            eprintln!("Cannot listen on 127.0.0.1:{port} ({error}). Choose another port with --port.");
            return ExitCode::FAILURE;
        }
    };
    println!("OpenAI is simulated at {}, with any key that starts with sk-.", simulator.base_url());
    println!("Stop it with Ctrl-C.");
    match tokio::signal::ctrl_c().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Cannot wait for Ctrl-C: {error}");
            ExitCode::FAILURE
        }
    }
}
