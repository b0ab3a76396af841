//! Functions and keepers that share a table and an OpenAI.

use std::sync::atomic::{AtomicUsize, Ordering};

use openai_simulator::Simulator;
use serde_json::{Value, json};

use crate::{
    function::{API_KEY, Function},
    keeper_process::Keeper,
    secrets::SecretsManager,
    table::{self, DynamoDb},
};

/// Functions and keepers that share a table and an OpenAI, without quotas of tokens.
pub struct Line {
    pub openai: Simulator,
    pub database: DynamoDb,
    pub table: String,
}

impl Line {
    /// With a table and an OpenAI of its own. `None` if the stand-in of the table is not installed.
    pub async fn open() -> Option<Self> {
        static TABLES: AtomicUsize = AtomicUsize::new(0);
        let database = DynamoDb::shared().await?;
        let table = format!("calls-{}", TABLES.fetch_add(1, Ordering::Relaxed));
        database.create(&table).await;
        Some(Self { openai: Simulator::start().await.unwrap(), database, table })
    }

    fn environment<'a>(&'a self, database: &'a str, openai: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut environment = table::environment(database);
        environment.retain(|(name, _)| *name != "QUOTA_TABLE");
        environment.extend([
            ("QUOTA_TABLE", self.table.as_str()),
            ("OPENAI_BASE_URL", openai),
            ("OPENAI_API_KEY", API_KEY),
            ("QUOTA_PER_MINUTE", "0"),
            ("QUOTA_PER_DAY", "0"),
            ("DAILY_MINT_LIMIT", "0"),
        ]);
        environment
    }

    pub async fn function(&self, further: &[(&str, &str)]) -> Function {
        self.function_at(&self.database.url, &self.openai.base_url(), further).await
    }

    /// A function with its table and OpenAI at these URLs.
    pub async fn function_at(&self, database: &str, openai: &str, further: &[(&str, &str)]) -> Function {
        Function::start(&[&self.environment(database, openai), further].concat()).await
    }

    pub async fn keeper(&self) -> Keeper {
        self.keeper_at(&self.database.url, &self.openai.base_url()).await
    }

    /// A keeper with its table and OpenAI at these URLs.
    pub async fn keeper_at(&self, database: &str, openai: &str) -> Keeper {
        Keeper::start(&self.environment(database, openai)).await
    }

    /// A function whose key is in this secret.
    pub async fn function_with_secret(&self, secrets: &SecretsManager, further: &[(&str, &str)]) -> Function {
        let base_url = self.openai.base_url();
        let own = self.environment(&self.database.url, &base_url);
        Function::start(&[&own, secrets.environment().as_slice(), further].concat()).await
    }

    /// A keeper whose key is in this secret.
    pub async fn keeper_with_secret(&self, secrets: &SecretsManager) -> Keeper {
        let base_url = self.openai.base_url();
        Keeper::start(&[self.environment(&self.database.url, &base_url), secrets.environment()].concat()).await
    }

    /// Remembers for the keeper that all calls of former minutes are ended, as one that ran a minute ago does. Otherwise its
    /// first round looks 75 minutes back.
    pub async fn mark_ended(&self) {
        self.mark_ended_before(now() / 60 - 2).await;
    }

    /// The same for the calls before that minute.
    pub async fn mark_ended_before(&self, minute: u64) {
        let done = format!("{:010}", minute - 1);
        self.database.put(&self.table, json!({"id": {"S": "calls/keeper"}, "done": {"S": done}})).await;
    }

    /// The account of a caller by its hash, or of `everyone`.
    pub async fn account(&self, caller: &str) -> Account {
        let items = self.database.items_of(&self.table).await;
        let item = items.into_iter().find(|item| item["id"]["S"] == format!("calls/{caller}")).unwrap_or_default();
        let attributes = item.as_object().cloned().unwrap_or_default();
        let slots = attributes.keys().filter(|name| name.starts_with("slot")).count();
        let seconds = attributes.iter().filter(|(name, _)| name.starts_with("seconds"));
        let seconds = seconds.map(|(_, count)| count["N"].as_str().unwrap().parse::<u64>().unwrap()).sum();
        Account { slots, seconds }
    }

    /// The records of all calls, by their names.
    pub async fn records(&self) -> Vec<(String, Value)> {
        let items = self.database.items_of(&self.table).await;
        let registers = items.into_iter().filter(|item| item["id"]["S"].as_str().unwrap().starts_with("ending/"));
        let attributes = registers.flat_map(|item| item.as_object().unwrap().clone());
        let records = attributes.filter(|(name, _)| name != "id" && name != "expires");
        records.map(|(name, text)| (name, serde_json::from_str(text["S"].as_str().unwrap()).unwrap())).collect()
    }

    /// The states of all calls, sorted.
    pub async fn states(&self) -> Vec<String> {
        let records = self.records().await;
        let mut states: Vec<_> =
            records.iter().map(|(_, record)| record["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        states
    }
}

/// The taken slots of an account, and its booked seconds.
#[derive(Debug, PartialEq)]
pub struct Account {
    pub slots: usize,
    pub seconds: u64,
}

/// This moment in Unix seconds.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
