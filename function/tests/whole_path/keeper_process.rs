//! The keeper's own process, started as Lambda starts it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::function::Function;

/// The timeout of the deployed keeper.
const TIMEOUT: Duration = Duration::from_secs(150);

pub struct Keeper {
    pub process: Function,
}

impl Keeper {
    /// Starts it with only these variables.
    pub async fn start(environment: &[(&str, &str)]) -> Self {
        let environment = [environment, &[("AWS_LAMBDA_FUNCTION_NAME", "keeper")]].concat();
        Self { process: Function::start_program(env!("CARGO_BIN_EXE_keeper"), &environment).await }
    }

    /// A round, as the schedule starts it. Returns the number of calls that it ended, and the causes of failures.
    pub async fn round(&self) -> (u64, Vec<String>) {
        // The event of a rule of EventBridge.
        ended(
            &self
                .command(&json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}))
                .await
                .unwrap(),
        )
    }

    /// A command of the operator. Returns the answer, or the error of the function.
    pub async fn command(&self, event: &Value) -> Result<Value, String> {
        let outcome = self.process.invoke_raw(TIMEOUT, event).await?;
        Ok(serde_json::from_slice(&outcome).unwrap())
    }

    /// The calls as the operator sees them.
    pub async fn list(&self) -> Vec<Value> {
        let answer = self.command(&json!({"command": "list"})).await.unwrap();
        answer["calls"].as_array().unwrap().clone()
    }
}

/// The number of ended calls in an answer, and the causes of failures.
pub fn ended(answer: &Value) -> (u64, Vec<String>) {
    let causes = answer["failed"].as_array().unwrap().iter().map(|failed| failed["cause"].as_str().unwrap().to_owned());
    (answer["ended"].as_u64().unwrap(), causes.collect())
}
