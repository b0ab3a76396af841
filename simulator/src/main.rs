//! `openai-simulator`: the simulator as a program.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the output of a command-line program")]

use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use openai_simulator::Simulator;

const USAGE: &str = "\
usage: openai-simulator [options]
  --host ADDRESS           address to listen on, for calls too (127.0.0.1); may be repeated
  --port PORT              port to listen on (8081)
  --session-limit SECONDS  longest duration of a session (3600)
  --connect-limit SECONDS  longest time until a call connects (30)
  --max-calls NUMBER       calls at once, and WebSockets at once (64)
  --reusable-tokens        let a token open several sessions, as OpenAI did until August 2026
  --help                   print this help";

#[derive(Debug, PartialEq)]
struct Options {
    hosts: Vec<IpAddr>,
    port: u16,
    session_limit: Option<Duration>,
    connect_limit: Option<Duration>,
    max_calls: Option<usize>,
    reusable_tokens: bool,
    help: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(options) = Options::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if options.help {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let simulator = match start(&options).await {
        Ok(simulator) => simulator,
        Err((address, error)) => {
            eprintln!("Cannot listen on {address} ({error}). Choose another with --host or --port.");
            return ExitCode::FAILURE;
        }
    };
    if let Some(limit) = options.session_limit {
        simulator.limit_sessions(limit);
    }
    if let Some(limit) = options.connect_limit {
        simulator.limit_connecting(limit);
    }
    if let Some(limit) = options.max_calls {
        simulator.limit_calls(limit);
    }
    if options.reusable_tokens {
        simulator.reuse_tokens();
    }
    println!("OpenAI is simulated at {}. Any API key that starts with sk- is accepted.", simulator.base_url());
    println!("Press Ctrl-C to stop.");
    match tokio::signal::ctrl_c().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Cannot wait for Ctrl-C: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the simulator at every address of the options.
///
/// # Errors
/// The address that cannot be listened on, and the cause.
async fn start(options: &Options) -> Result<Simulator, (SocketAddr, io::Error)> {
    let (first, others) = options.addresses();
    let mut simulator = Simulator::start_at(first).await.map_err(|error| (first, error))?;
    for address in others {
        simulator.listen_also_at(address).await.map_err(|error| (address, error))?;
    }
    Ok(simulator)
}

impl Options {
    /// The first address, which becomes the simulator's base URL, and the others.
    fn addresses(&self) -> (SocketAddr, Vec<SocketAddr>) {
        let mut addresses = self.hosts.iter().map(|host| SocketAddr::from((*host, self.port)));
        let first = addresses.next().unwrap_or_else(|| (Ipv4Addr::LOCALHOST, self.port).into());
        (first, addresses.collect())
    }

    /// `None` if the arguments do not match the usage.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self {
            hosts: Vec::new(),
            port: 8081,
            session_limit: None,
            connect_limit: None,
            max_calls: None,
            reusable_tokens: false,
            help: false,
        };
        while let Some(option) = arguments.next() {
            match option.as_str() {
                "--host" => options.hosts.push(arguments.next()?.parse().ok()?),
                "--port" => options.port = arguments.next()?.parse().ok()?,
                "--session-limit" => options.session_limit = Some(seconds(arguments.next())?),
                "--connect-limit" => options.connect_limit = Some(seconds(arguments.next())?),
                "--max-calls" => {
                    let limit = arguments.next()?.parse().ok();
                    options.max_calls = Some(limit.filter(|limit| (1..=100_000).contains(limit))?);
                }
                "--reusable-tokens" => options.reusable_tokens = true,
                "--help" => options.help = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// A duration of up to an hour.
fn seconds(argument: Option<String>) -> Option<Duration> {
    argument?.parse().ok().filter(|seconds| (1..=3_600).contains(seconds)).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Option<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    fn address(line: &str) -> String {
        let (first, others) = options(line).unwrap().addresses();
        std::iter::once(first).chain(others).map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn it_listens_on_loopback_by_default() {
        assert_eq!(address(""), "127.0.0.1:8081");
        assert_eq!(address("--port 9000"), "127.0.0.1:9000");
        assert_eq!(address("--host 172.17.0.1"), "172.17.0.1:8081");
        assert_eq!(address("--port 9000 --host ::1"), "[::1]:9000");
        assert_eq!(address("--host 172.17.0.1 --host 127.0.0.1"), "172.17.0.1:8081 127.0.0.1:8081");
    }

    #[test]
    fn sessions_calls_and_tokens_are_limited_by_options() {
        let changed = options("--session-limit 90 --reusable-tokens").unwrap();
        assert_eq!((changed.session_limit, changed.reusable_tokens), (Some(Duration::from_secs(90)), true));
        let changed = options("--max-calls 1000 --connect-limit 600").unwrap();
        assert_eq!((changed.connect_limit, changed.max_calls), (Some(Duration::from_secs(600)), Some(1_000)));
        let default = options("--help").unwrap();
        assert_eq!((default.session_limit, default.reusable_tokens), (None, false));
        assert_eq!((default.connect_limit, default.max_calls), (None, None));
        assert!(default.help);
    }

    #[test]
    fn arguments_outside_the_usage_are_refused() {
        for line in [
            "--port",
            "--port 65536",
            "--host localhost",
            "--host ::1 --port",
            "--listen ::1",
            "9000",
            "--session-limit 0",
            "--session-limit 3601",
            "--session-limit",
            "--connect-limit 0",
            "--connect-limit 3601",
            "--max-calls 0",
            "--max-calls 100001",
            "--max-calls",
            "--single-use-tokens",
        ] {
            assert_eq!(options(line), None, "{line}");
        }
    }

    #[test]
    fn the_usage_lists_every_option() {
        for option in
            ["--host", "--port", "--session-limit", "--connect-limit", "--max-calls", "--reusable-tokens", "--help"]
        {
            assert!(USAGE.contains(&format!("\n  {option} ")), "{option}");
        }
    }
}
