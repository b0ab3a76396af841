//! Profiles: the requests that OpenAI gets, and its acceptance of them.

use std::time::Duration;

use openai_simulator::Simulator;
use serde_json::{Value, json};
use token_mint::{
    net::tls,
    openai::{Attempts, MintRequest, OpenAi, Token},
    profile::Profiles,
};
use tokio::time::Instant;

use crate::{
    function::{Function, http_api},
    refusals::assert_refused,
};

/// Every value of a list, and both ends of a range.
fn allowed(rule: &Value) -> Vec<Value> {
    let (kind, of) = rule.as_object().unwrap().iter().next().unwrap();
    match (kind.as_str(), of) {
        ("one_of", Value::Array(words)) => words.clone(),
        ("one_of", Value::Object(names)) => names.keys().map(|name| json!(name)).collect(),
        ("number" | "integer", range) => vec![range["from"].clone(), range["to"].clone()],
        ("text", text) => {
            vec![json!(""), json!("x".repeat(usize::try_from(text["max_characters"].as_u64().unwrap()).unwrap()))]
        }
        (other, _) => panic!("unknown rule: {other}"),
    }
}

#[tokio::test]
async fn openai_accepts_every_profile_and_choice_and_no_answer_has_instructions() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let profiles: Value = serde_json::from_str(include_str!("../../profiles.json")).unwrap();
    let mut bodies = Vec::new();
    let is_locked = |profile: &Value| profile["call"]["mode"] == "locked";
    for (name, profile) in profiles.as_object().unwrap().iter().filter(|(_, profile)| !is_locked(profile)) {
        bodies.push(json!({"profile": name}));
        for (field, setting) in profile["caller_may_set"].as_object().unwrap() {
            bodies.extend(allowed(&setting["allow"]).into_iter().map(|value| json!({"profile": name, field: value})));
        }
    }
    assert!(bodies.len() > 20);
    for body in bodies {
        let reply = function.invoke(&http_api(&json!({"body": body.to_string()}))).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.body);
        assert!(!reply.whole.to_string().contains("You play"), "{}", reply.whole);
    }
    let example = openai.requests().into_iter().find(|sent| sent.body["session"]["tools"].is_array()).unwrap();
    assert!(example.body["session"]["instructions"].as_str().unwrap().starts_with("You play one person"));
}

#[tokio::test]
async fn a_field_is_allowed_only_in_its_profile() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for (body, details) in [
        (json!({"scenario": "waiting-room"}), "Unknown field 'scenario'; allowed fields: profile, voice"),
        (
            json!({"profile": "de-escalation-open", "voice": "alloy"}),
            "Invalid value for 'voice': expected one of ash, coral, sage, verse, marin, cedar",
        ),
        (
            json!({"profile": "de-escalation-open", "speed": 1.5}),
            "Invalid value for 'speed': expected a number from 0.8 to 1.2",
        ),
        (
            json!({"profile": "de-escalation-open", "instructions": "Tell me a joke"}),
            "Unknown field 'instructions'; allowed fields: profile, scenario, speed, voice",
        ),
    ] {
        let reply = function.invoke(&http_api(&json!({"body": body.to_string()}))).await;
        assert_eq!(assert_refused(&reply, 400, "invalid_request"), details);
    }
    assert!(openai.requests().is_empty());
}

async fn mint(openai: &Simulator, profile: Value) -> Token {
    let text = json!({"default": profile}).to_string();
    let session = Profiles::parse(&text, None, None, Duration::from_secs(60)).unwrap().session(b"").unwrap();
    let client = OpenAi::new(&openai.base_url().parse().unwrap(), tls::client_config(None).unwrap()).unwrap();
    let request = MintRequest {
        endpoint: session.kind.into(),
        api_key: &"sk-test".into(),
        safety_identifier: "0a1b",
        body: &session.request,
    };
    client.mint(&request, Instant::now() + Duration::from_secs(5), &mut Attempts::default()).await.unwrap()
}

#[tokio::test]
async fn each_kind_of_session_goes_to_its_own_endpoint() {
    let openai = Simulator::start().await.unwrap();
    let session = json!({"model": "gpt-realtime-translate", "audio": {"output": {"language": "es"}}});
    let translation = json!({"kind": "translation", "session": session});
    let token = mint(&openai, translation).await;
    assert_eq!((token.model.as_deref(), token.voice.as_deref()), (Some("gpt-realtime-translate"), None));
    let session = json!({"audio": {"input": {"transcription": {"model": "gpt-live-transcribe"}}}});
    let token = mint(&openai, json!({"kind": "transcription", "session": session})).await;
    assert_eq!((token.model.as_deref(), token.voice.as_deref()), (Some("gpt-live-transcribe"), None));
    let paths: Vec<_> = openai.requests().into_iter().map(|sent| sent.path).collect();
    assert_eq!(paths, ["/v1/realtime/translations/client_secrets", "/v1/realtime/client_secrets"]);
}
