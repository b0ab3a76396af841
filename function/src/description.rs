//! A description of this library as data: `description.json`, which the Python programs and tests of the repository read
//! instead of the source.

use std::{env, fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{admission, api::refusal, aws::dynamodb, config, openai, profile::Profiles, record};

const REFRESH: &str = "WRITE=yes cargo test --package token-mint --lib description";

fn describe() -> Value {
    let mut variables = config::describe();
    let default = Profiles::load(None, None, Duration::from_secs(3600)).unwrap().session(b"").unwrap();
    for variable in variables.as_array_mut().unwrap() {
        match variable["name"].as_str() {
            Some("MODEL") => variable["default"] = default.model.clone().into(),
            Some("VOICE") => variable["default"] = default.voice.clone().into(),
            _ => {}
        }
    }
    json!({
        "made_by": REFRESH,
        "variables": variables,
        "refusals": refusal::describe(),
        "metrics": record::describe(),
        "keeper_metrics": record::describe_keeper(),
        "daily_limit": admission::describe_daily_limit(),
        "retries": {"dynamodb": dynamodb::describe_retries(), "openai": openai::describe_retries()},
    })
}

#[test]
fn description_json_matches_the_library() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("description.json");
    let text = format!("{:#}\n", describe());
    if env::var_os("WRITE").is_some_and(|write| write == "yes") {
        fs::write(&path, &text).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == text, "description.json is out of date: run `{REFRESH}`");
}
