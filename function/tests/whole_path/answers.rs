//! The answer with a token, for every kind of event.

use openai_simulator::Simulator;
use serde_json::{Value, json};

use crate::function::{ADDRESS, API_KEY, Function, Reply, http_api, records};

const EVENTS: [(&str, &str); 5] = [
    ("http-api", include_str!("../../events/http-api.json")),
    ("function-url", include_str!("../../events/function-url.json")),
    ("rest-api", include_str!("../../events/rest-api.json")),
    ("load-balancer", include_str!("../../events/load-balancer.json")),
    ("console", include_str!("../../events/console.json")),
];

/// Checks that an answer has exactly the fields of the contract.
fn assert_token(reply: &Reply, voice: &str) {
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert_eq!(reply.headers["content-type"], "application/json");
    let body = &reply.body;
    let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "callsUrl",
            "ephemeralToken",
            "expiresAt",
            "expires_at",
            "message",
            "model",
            "sessionId",
            "success",
            "token",
            "url",
            "value",
            "voice"
        ]
    );
    assert_eq!(body["success"], true);
    assert_eq!(body["message"], "Ephemeral token created successfully");
    assert_eq!((&body["model"], &body["voice"]), (&json!("gpt-realtime-2.1"), &json!(voice)));
    assert!(body["value"].as_str().unwrap().starts_with("ek_"));
    assert!(body["sessionId"].as_str().unwrap().starts_with("sess_"));
    assert_eq!((&body["value"], &body["expires_at"]), (&body["ephemeralToken"], &body["expiresAt"]));
    assert_eq!(body["token"], body["value"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = body["expiresAt"].as_u64().unwrap() - now;
    assert!((3590..=3600).contains(&left), "one hour by default, not {left} s");
}

#[tokio::test]
async fn every_kind_of_event_gets_a_token() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for (name, event) in EVENTS {
        let reply = function.invoke(&serde_json::from_str(event).unwrap()).await;
        assert_token(&reply, if name == "function-url" { "marin" } else { "alloy" });
        assert_eq!(reply.whole.get("statusDescription").is_some(), name == "load-balancer", "{name}");
    }
    let tokens = openai.requests();
    assert_eq!(tokens.len(), EVENTS.len(), "each answer has its own mint");
    assert_eq!(openai.connections(), 1, "all requests used the connection from the start");
}

#[tokio::test]
async fn a_token_is_served_below_any_stage_or_base_path() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let http_api = |fields: Value| {
        let mut event = http_api(&fields);
        event["requestContext"]["stage"] = "prod".into();
        event
    };
    let rest_api = |fields: Value| {
        let mut event: Value = serde_json::from_str(EVENTS[2].1).unwrap();
        for (name, value) in fields.as_object().unwrap() {
            event[name] = value.clone();
        }
        event
    };
    let on_a_custom_domain = |mut event: Value| {
        event["requestContext"]["domainName"] = "api.example.com".into();
        event["requestContext"]["domainPrefix"] = "api".into();
        event
    };
    for event in [
        http_api(json!({"rawPath": "/prod/token"})),
        http_api(json!({"rawPath": "/prod/token", "routeKey": "$default"})),
        http_api(json!({"rawPath": "/prod/token", "routeKey": "ANY /{proxy+}", "pathParameters": {"proxy": "token"}})),
        on_a_custom_domain(http_api(json!({"rawPath": "/voice/token"}))),
        on_a_custom_domain(http_api(json!({"rawPath": "/voice/token", "routeKey": "$default"}))),
        rest_api(json!({"path": "/token/"})),
        rest_api(json!({"path": "/token", "resource": "/{proxy+}", "pathParameters": {"proxy": "token"}})),
        on_a_custom_domain(rest_api(json!({"path": "/voice/token"}))),
        on_a_custom_domain(rest_api(json!({"path": "/voice/v1/token", "resource": "/{proxy+}",
            "pathParameters": {"proxy": "token"}}))),
        on_a_custom_domain(rest_api(json!({"path": "/prod/token"}))),
    ] {
        let reply = function.invoke(&event).await;
        assert_eq!(reply.status, 200, "{event}: {}", reply.body);
    }
    for event in [
        on_a_custom_domain(http_api(json!({"rawPath": "/voice/other", "routeKey": "$default"}))),
        on_a_custom_domain(rest_api(json!({"path": "/voice/other", "resource": "/{proxy+}",
            "pathParameters": {"proxy": "other"}}))),
    ] {
        assert_eq!(function.invoke(&event).await.status, 404, "{event}");
    }
}

#[tokio::test]
async fn the_urls_for_calls_and_websockets_are_below_the_configured_base_url() {
    let openai = Simulator::start().await.unwrap();
    for slash in ["", "/"] {
        let base_url = format!("{}{slash}", openai.base_url());
        let function = Function::start(&[("OPENAI_BASE_URL", &base_url), ("OPENAI_API_KEY", API_KEY)]).await;
        let body = function.mint().await.body;
        assert_eq!(body["callsUrl"], format!("{}/realtime/calls", openai.base_url()));
        let socket = openai.base_url().replace("http://", "ws://");
        assert_eq!(body["url"], format!("{socket}/realtime?model=gpt-realtime-2.1"));
    }
}

#[tokio::test]
async fn openai_gets_the_default_session_and_the_safety_identifier() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    function.mint().await;
    let sent = &openai.requests()[0];
    assert_eq!(sent.path, "/v1/realtime/client_secrets");
    assert_eq!(sent.bearer, API_KEY);
    assert_eq!(
        sent.body,
        json!({
            "expires_after": {"anchor": "created_at", "seconds": 3600},
            "session": {"type": "realtime", "model": "gpt-realtime-2.1", "audio": {"output": {"voice": "alloy"}}}
        })
    );
    let identifier = sent.safety_identifier.as_deref().unwrap();
    assert_eq!(identifier.len(), 64);
    assert!(identifier.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[tokio::test]
async fn a_caller_is_identified_by_the_address_that_the_gateway_saw() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let from = |source: Value, claimed: &str| {
        let mut event = http_api(&json!({}));
        event["requestContext"]["http"]["sourceIp"] = source;
        event["headers"]["x-forwarded-for"] = claimed.into();
        event
    };
    for event in [
        from(json!(ADDRESS), "198.51.100.1"),
        from(json!(ADDRESS), "198.51.100.2"),
        from(json!("198.51.100.1"), ADDRESS),
        from(json!("2001:db8:1:2::1"), ""),
        from(json!("2001:db8:1:2:ffff::9"), ""),
        from(json!(null), ADDRESS),
        json!({"httpMethod": "POST", "body": "{}"}),
    ] {
        assert_eq!(function.invoke(&event).await.status, 200);
    }
    let callers: Vec<_> = openai.requests().into_iter().map(|sent| sent.safety_identifier.unwrap()).collect();
    assert_eq!(callers[0], callers[1], "the claimed address makes no difference");
    assert_ne!(callers[0], callers[2]);
    assert_eq!(callers[3], callers[4], "one household is one caller");
    assert_eq!(callers[5], callers[6], "all events without a source are one caller");
    assert_eq!(callers.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[tokio::test]
async fn a_signed_in_user_is_the_same_caller_from_every_address() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let from = |subject: Value, address: &str| {
        let claims = json!({"jwt": {"claims": {"sub": subject, "aud": "mint"}, "scopes": null}});
        json!({"requestContext": {"http": {"method": "POST", "sourceIp": address}, "authorizer": claims}})
    };
    for event in [
        from(json!("auth0|1"), ADDRESS),
        from(json!("auth0|1"), "198.51.100.1"),
        from(json!("auth0|2"), ADDRESS),
        http_api(&json!({})),
    ] {
        assert_eq!(function.invoke(&event).await.status, 200);
    }
    let callers: Vec<_> = openai.requests().into_iter().map(|sent| sent.safety_identifier.unwrap()).collect();
    assert_eq!(callers[0], callers[1]);
    assert_eq!(callers.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[tokio::test]
async fn the_operator_sets_model_voice_and_lifetime_and_the_caller_the_voice() {
    let openai = Simulator::start().await.unwrap();
    let environment = [("MODEL", "gpt-realtime-2"), ("VOICE", "cedar"), ("TOKEN_TTL_SECONDS", "10")];
    let function = Function::with(&openai, &environment).await;
    let reply = function.mint().await;
    assert_eq!((&reply.body["model"], &reply.body["voice"]), (&json!("gpt-realtime-2"), &json!("cedar")));
    let reply = function.invoke(&http_api(&json!({"body": r#"{"profile": "default", "voice": "ash"}"#}))).await;
    assert_eq!((&reply.body["model"], &reply.body["voice"]), (&json!("gpt-realtime-2"), &json!("ash")));
    assert_eq!(openai.requests()[1].body["expires_after"]["seconds"], 10);
}

#[tokio::test]
async fn requests_with_an_allowed_origin_or_without_one_get_a_token() {
    let openai = Simulator::start().await.unwrap();
    let allowed = [("ALLOWED_ORIGINS", "https://other.example.com, https://app.example.com")];
    let function = Function::with(&openai, &allowed).await;
    assert_eq!(function.mint().await.status, 200);
    assert_eq!(function.invoke(&http_api(&json!({"headers": {"host": "x"}}))).await.status, 200);
    assert_eq!(function.invoke(&json!({"httpMethod": "POST", "body": "{}"})).await.status, 200);
}

#[tokio::test]
async fn a_record_describes_its_request_completely() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    function.mint().await;
    function.mint().await;
    function.invoke(&http_api(&json!({"body": "?"}))).await;
    let records = records(&function.stop().await);
    assert_eq!(records.len(), 3, "one for each request");
    let minted = &records[0];
    assert_eq!((&minted["Code"], &minted["status"], &minted["Mints"]), (&json!("ok"), &json!(200), &json!(1)));
    assert_eq!((&minted["Attempts"], &minted["FunctionName"]), (&json!(1), &json!("mint")));
    assert_eq!((&minted["profile"], &minted["model"]), (&json!("default"), &json!("gpt-realtime-2.1")));
    assert_eq!(minted["requestId"], "00000000-0000-0000-0000-000000000001");
    assert_eq!(minted["caller"].as_str(), openai.requests()[0].safety_identifier.as_deref());
    assert!(minted["OpenAITime"].as_f64().unwrap() > 0.0);
    assert!(minted["OwnTime"].as_f64().unwrap() > 0.0);
    assert!(minted["KeyAge"].as_u64().unwrap() < 60, "in seconds: {minted}");
    let cold: Vec<_> = records.iter().map(|record| record["ColdStarts"].as_u64().unwrap()).collect();
    assert_eq!(cold, [1, 0, 0]);
    assert_eq!((&records[2]["Code"], &records[2]["Mints"]), (&json!("invalid_request"), &json!(0)));
    assert_eq!(records[2].get("OpenAITime"), None, "OpenAI was not asked");
}
