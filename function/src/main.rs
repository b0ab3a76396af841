//! The Lambda function. A cold start is: configuration, clients, then key and connection side by
//! side, and only then the first request.

use std::{error::Error, process::ExitCode, sync::Arc};

use lambda_runtime::{Runtime, service_fn};
use token_mint::{config::Config, event, log, token::Mint};
use tracing::Level;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // A task, since the runtime asks the kernel for news each time that it gets back to `main` itself.
    match tokio::spawn(run()).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log::start(Level::ERROR);
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
        // It has panicked, which aborts the process, or was cancelled, which no one does.
        Err(_) => ExitCode::FAILURE,
    }
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = Config::from_env()?;
    if !config.in_lambda {
        return Err("this program runs inside AWS Lambda; on your own machine, use `make demo`".into());
    }
    log::start(config.log_level);
    let mint = Arc::new(Mint::new(config).await?);
    mint.warm().await;
    Runtime::new(service_fn(|invocation| event::answer(Arc::clone(&mint), invocation))).run().await
}
