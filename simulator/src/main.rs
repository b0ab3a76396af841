//! `openai-simulator [--host ADDRESS] [--port PORT]`: the simulator as a program.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that speaks to a person")]

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
};

use openai_simulator::Simulator;

const USAGE: &str = "usage: openai-simulator [--host ADDRESS] [--port PORT]   (default 127.0.0.1, 8081)";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(address) = address(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let simulator = match Simulator::start_at(address).await {
        Ok(simulator) => simulator,
        Err(error) => {
            eprintln!("Cannot listen on {address} ({error}). Choose another with --host or --port.");
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

/// Where to listen; nothing if the arguments are not those of the usage line.
fn address(mut arguments: impl Iterator<Item = String>) -> Option<SocketAddr> {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
    while let Some(option) = arguments.next() {
        let value = arguments.next()?;
        match option.as_str() {
            "--host" => address.set_ip(value.parse().ok()?),
            "--port" => address.set_port(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    fn address(line: &str) -> Option<String> {
        let arguments = line.split_whitespace().map(str::to_owned);
        super::address(arguments).map(|address| address.to_string())
    }

    #[test]
    fn it_listens_on_loopback_unless_it_is_told_otherwise() {
        assert_eq!(address("").as_deref(), Some("127.0.0.1:8081"));
        assert_eq!(address("--port 9000").as_deref(), Some("127.0.0.1:9000"));
        assert_eq!(address("--host 172.17.0.1").as_deref(), Some("172.17.0.1:8081"));
        assert_eq!(address("--port 9000 --host ::1").as_deref(), Some("[::1]:9000"));
    }

    #[test]
    fn anything_else_is_answered_with_the_usage() {
        for line in
            ["--port", "--port 65536", "--host localhost", "--host ::1 --port", "--listen ::1", "9000", "--help"]
        {
            assert_eq!(address(line), None, "{line}");
        }
    }
}
