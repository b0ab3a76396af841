//! The keeper as a Lambda function.

use std::{sync::Arc, time::Duration};

use lambda_runtime::{Error, LambdaEvent};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    aws::{dynamodb::Table, sdk},
    calls::{
        Calls,
        hang_up::Receiver,
        keeper::{Command, Keeper, Report},
    },
    config::Config,
    net::{clock, tls},
    openai::OpenAi,
    record::{Recorder, Round},
    runtime,
    secret::SecretStore,
};

/// The part of the invocation's time that is reserved for its end.
const RESERVE: Duration = Duration::from_secs(5);

/// Builds the keeper, and hands it the invocations.
///
/// # Errors
/// If no table is configured, a client cannot be built, or Lambda's Runtime API cannot be reached.
pub async fn serve(config: Config) -> Result<(), Error> {
    let name = config.table.ok_or("QUOTA_TABLE is not set: expected the table in which the calls are registered")?;
    let tls = tls::client_config(config.extra_ca_file.as_deref())?;
    let aws = sdk::config(&tls).await?;
    let table = Arc::new(Table::new(name, &aws, tls.clone())?.patient());
    let secret = Arc::new(SecretStore::new(config.key_source, Some(&aws), config.key_ttl));
    let receiver = Receiver::new(Arc::new(OpenAi::new(&config.base_url, tls)?), secret, &config.base_url);
    let keeper = Arc::new(Keeper { calls: Arc::new(Calls::new(Some(table), config.call_limits)), receiver });
    let recorder = Arc::new(Recorder::new(config.function_name));
    runtime::serve(move |invocation| handle(Arc::clone(&keeper), Arc::clone(&recorder), invocation)).await
}

/// Carries out the command in an event.
///
/// # Errors
/// If there is no such command, or the table cannot be used: an error of the function, which its metric counts.
async fn handle(keeper: Arc<Keeper>, recorder: Arc<Recorder>, event: LambdaEvent<Value>) -> Result<Report, Error> {
    let LambdaEvent { payload, context } = event;
    let began = Instant::now();
    let remaining = Duration::from_millis(context.deadline.saturating_sub(clock::unix_millis()));
    let deadline = began.checked_add(remaining.saturating_sub(RESERVE)).unwrap_or(began);
    let command = Command::read(&payload)?;
    let mut round = Round::default();
    let outcome = keeper.run(command, deadline, &mut round).await;
    let failure = outcome.as_ref().err().map(|error| format!("the table cannot be used: {error}"));
    recorder.write_round(&context.request_id, began, &round, failure);
    Ok(outcome?)
}
