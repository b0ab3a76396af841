//! The keeper, the second Lambda function: a schedule starts it every minute, and it ends each call at its second. No route leads
//! to it.

use std::{error::Error, process::ExitCode};

use token_mint::{config::Config, keeper_function, log};
use tracing::Level;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::start(Level::ERROR);
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = Config::from_env()?;
    if !config.in_lambda {
        return Err("this program runs inside AWS Lambda; `make demo` ends its calls itself".into());
    }
    log::start(config.log_level);
    keeper_function::serve(config).await
}
