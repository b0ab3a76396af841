//! The Lambda function. A cold start reads the configuration and builds the clients, then fetches the key and opens the
//! connections in parallel. The first request is taken after that.

use std::{error::Error, process::ExitCode, sync::Arc};

use token_mint::{config::Config, handler::Handler, log, runtime};
use tracing::Level;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Spawned rather than awaited here: tokio's current-thread runtime polls the I/O driver every time that control
    // returns to the `block_on` future.
    match tokio::spawn(run()).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log::start(Level::ERROR);
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
        // A panic aborts the process before this, and the task is never cancelled.
        Err(_) => ExitCode::FAILURE,
    }
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = Config::from_env()?;
    if !config.in_lambda {
        return Err("this program runs inside AWS Lambda; on your own machine, use `make demo`".into());
    }
    log::start(config.log_level);
    let handler = Arc::new(Handler::new(config).await?);
    handler.warm().await;
    // Deployed functions have the table. On a developer's own machine, this process has to end its calls itself.
    if let Some(keeper) = handler.keeper_in_memory() {
        tokio::spawn(keeper.keep());
    }
    runtime::serve(move |invocation| Arc::clone(&handler).handle(invocation)).await
}
