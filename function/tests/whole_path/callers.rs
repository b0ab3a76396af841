//! Who calls: the subject of a sign-in, which is never an address, and the address behind a load balancer.

use openai_simulator::Simulator;
use serde_json::{Value, json};

use crate::{
    function::{ADDRESS, Function, Reply, http_api, records},
    refusals::assert_refused,
};

/// The caller's safety identifier at OpenAI, for a request that gets a token.
async fn caller(openai: &Simulator, function: &Function, event: &Value) -> String {
    let reply = function.invoke(event).await;
    assert_eq!(reply.status, 200, "{event}: {}", reply.body);
    openai.requests().last().unwrap().safety_identifier.clone().unwrap()
}

fn signed_in(authorizer: &Value) -> Value {
    json!({"version": "2.0", "body": "{}", "isBase64Encoded": false,
        "requestContext": {"http": {"method": "POST", "sourceIp": ADDRESS}, "authorizer": authorizer}})
}

fn claims(claims: &Value) -> Value {
    signed_in(&json!({"jwt": {"claims": claims, "scopes": null}}))
}

fn rest_api(authorizer: &Value, identity: &Value) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../events/rest-api.json")).unwrap();
    event["requestContext"]["authorizer"] = authorizer.clone();
    for (name, value) in identity.as_object().unwrap() {
        event["requestContext"]["identity"][name] = value.clone();
    }
    event
}

fn balanced(headers: &Value) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../events/load-balancer.json")).unwrap();
    event["headers"] = headers.clone();
    event
}

#[tokio::test]
async fn a_numeric_subject_is_the_caller_of_its_text() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let number = caller(&openai, &function, &claims(&json!({"sub": 5}))).await;
    assert_eq!(caller(&openai, &function, &claims(&json!({"sub": "5"}))).await, number);
    assert_ne!(caller(&openai, &function, &claims(&json!({"sub": 6}))).await, number);
    assert_ne!(caller(&openai, &function, &http_api(&json!({}))).await, number);
}

#[tokio::test]
async fn every_form_of_a_sign_in_names_its_own_caller() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let expected = caller(&openai, &function, &claims(&json!({"sub": "user-1"}))).await;
    let null = json!(null);
    for event in [
        rest_api(&json!({"claims": {"sub": "user-1", "cognito:username": "u"}}), &json!({})),
        rest_api(&json!({"principalId": "user-1", "integrationLatency": 5, "tier": "gold"}), &json!({})),
        rest_api(&json!({"principalId": "x", "sub": "user-1"}), &json!({})),
        rest_api(&null, &json!({"user": "user-1", "caller": "user-1", "userArn": "arn:aws:iam::1:user/u"})),
        rest_api(
            &null,
            &json!({"user": "AROA1:x", "cognitoIdentityId": "user-1", "cognitoAuthenticationType": "authenticated"}),
        ),
        signed_in(&json!({"lambda": {"sub": "user-1"}})),
        signed_in(&json!({"iam": {"userId": "user-1", "callerId": "user-1", "cognitoIdentity": null}})),
        signed_in(&json!({"iam": {"userId": "AROA1:CognitoIdentityCredentials",
            "cognitoIdentity": {"amr": ["authenticated"], "identityId": "user-1", "identityPoolId": "p"}}})),
    ] {
        assert_eq!(caller(&openai, &function, &event).await, expected, "{event}");
    }
}

/// Checks that a sign-in is refused with a code of its own.
async fn assert_no_subject(function: &Function, event: &Value) -> Reply {
    let reply = function.invoke(event).await;
    assert_eq!(reply.body["code"], "no_subject", "{event}: {}", reply.body);
    assert_refused(&reply, 403, "no_subject");
    reply
}

#[tokio::test]
async fn a_sign_in_without_a_subject_is_refused_and_never_an_address() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let null = json!(null);
    let events = [
        claims(&json!({"iss": "https://login.example", "preferred_username": "u1"})),
        claims(&json!({"sub": null})),
        claims(&json!({"sub": ""})),
        claims(&json!({"sub": " \t"})),
        claims(&json!({"sub": {"id": 1}})),
        claims(&json!({"sub": ["a", "b"]})),
        claims(&json!({"sub": true})),
        claims(&json!({})),
        claims(&null),
        signed_in(&json!({"jwt": {}})),
        signed_in(&json!({"lambda": null})),
        signed_in(&json!({"lambda": {"tier": "gold"}})),
        signed_in(&json!({"iam": {"accountId": "123456789012"}})),
        signed_in(&json!("someone")),
        rest_api(&json!({"claims": {"iss": "x"}}), &json!({})),
        rest_api(&json!({"principalId": ""}), &json!({})),
        rest_api(&null, &json!({"userArn": "arn:aws:iam::1:user/u", "accessKey": "ASIA1"})),
    ];
    for event in &events {
        assert_no_subject(&function, event).await;
    }
    let reply = assert_no_subject(&function, &events[0]).await;
    let details =
        "The sign-in does not say who you are: the claim 'sub' is missing or empty, or is neither text nor a number";
    assert_eq!(reply.body["details"], details);
    let message = reply.body["message"].as_str().unwrap();
    assert!(message.contains("Keycloak 25 and later: client scope basic") && message.contains("AuthSubjectClaim"));
    assert!(openai.requests().is_empty());
    let log = function.stop().await;
    let record = &records(&log)[0];
    assert_eq!((&record["Code"], record.get("caller")), (&json!("no_subject"), None));
    assert!(record["cause"].as_str().unwrap().contains("the claim 'sub' is missing"), "{record}");
    assert!(!log.contains("preferred_username") && !log.contains("u1"), "{log}");
}

#[tokio::test]
async fn a_result_without_a_sign_in_leaves_the_address() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let anonymous = caller(&openai, &function, &http_api(&json!({}))).await;
    let guest = json!({"iam": {"userId": "AROA1:CognitoIdentityCredentials",
        "cognitoIdentity": {"amr": ["unauthenticated"], "identityId": "1", "identityPoolId": "p"}}});
    for event in [
        signed_in(&json!(null)),
        signed_in(&json!({})),
        signed_in(&guest),
        rest_api(&json!({"claims": null, "scopes": null}), &json!({"sourceIp": ADDRESS})),
        rest_api(&json!(null), &json!({"sourceIp": ADDRESS})),
    ] {
        assert_eq!(caller(&openai, &function, &event).await, anonymous, "{event}");
    }
}

#[tokio::test]
async fn the_operator_chooses_the_claim_that_names_the_caller() {
    let openai = Simulator::start().await.unwrap();
    let all = json!({"sub": "s-1", "email": "a@example.com", "oid": "o-1", "cognito:username": "u-1",
        "https://example.com/user_id": 7});
    let mut callers = vec![];
    for claim in ["sub", "email", "oid", "cognito:username", "https://example.com/user_id"] {
        let function = Function::with(&openai, &[("AUTH_SUBJECT_CLAIM", claim)]).await;
        let first = caller(&openai, &function, &claims(&all)).await;
        let mut other = all.clone();
        for (name, value) in other.as_object_mut().unwrap() {
            if name != claim {
                *value = "other".into();
            }
        }
        assert_eq!(caller(&openai, &function, &claims(&other)).await, first, "{claim}");
        other[claim] = "other".into();
        assert_ne!(caller(&openai, &function, &claims(&other)).await, first, "{claim}");
        other.as_object_mut().unwrap().remove(claim);
        let reply = assert_no_subject(&function, &claims(&other)).await;
        assert!(reply.body["details"].as_str().unwrap().contains(&format!("the claim '{claim}'")), "{}", reply.body);
        let rest_api = rest_api(&json!({"principalId": "p"}), &json!({}));
        assert_eq!(function.invoke(&rest_api).await.status, if claim == "sub" { 200 } else { 403 });
        callers.push(first);
    }
    callers.sort_unstable();
    callers.dedup();
    assert_eq!(callers.len(), 5);
}

#[tokio::test]
async fn behind_a_load_balancer_the_caller_is_the_last_forwarded_address() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let expected = caller(&openai, &function, &http_api(&json!({}))).await;
    let mut lists = balanced(&json!(null));
    lists["multiValueHeaders"] = json!({"x-forwarded-for": ["198.51.100.1", format!("198.51.100.2, {ADDRESS}")]});
    for event in [
        balanced(&json!({"x-forwarded-for": ADDRESS})),
        balanced(&json!({"X-Forwarded-For": format!("198.51.100.1, {ADDRESS}")})),
        balanced(&json!({"x-forwarded-for": format!("unknown,198.51.100.1,{ADDRESS}:4711")})),
        lists,
    ] {
        assert_eq!(caller(&openai, &function, &event).await, expected, "{event}");
    }
    let other = balanced(&json!({"x-forwarded-for": format!("{ADDRESS}, 198.51.100.1")}));
    assert_ne!(caller(&openai, &function, &other).await, expected);

    let direct = caller(&openai, &function, &json!({"httpMethod": "POST", "body": "{}"})).await;
    assert_eq!(caller(&openai, &function, &balanced(&json!({}))).await, direct, "in the mode `remove`");
    let claimed = json!({"httpMethod": "POST", "headers": {"x-forwarded-for": ADDRESS}});
    assert_eq!(caller(&openai, &function, &claimed).await, direct, "the header counts only behind a load balancer");
}

#[tokio::test]
async fn the_sign_in_of_a_load_balancer_is_neither_believed_nor_ignored() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for name in ["x-amzn-oidc-identity", "x-amzn-oidc-data"] {
        let event = balanced(&json!({"x-forwarded-for": ADDRESS, name: "user-1"}));
        let reply = assert_no_subject(&function, &event).await;
        assert!(reply.whole["statusDescription"].is_string());
    }
    assert!(openai.requests().is_empty());
    // To an API, they are headers like any other.
    let event = http_api(&json!({"headers": {"x-amzn-oidc-identity": "user-1"}}));
    let anonymous = caller(&openai, &function, &http_api(&json!({}))).await;
    assert_eq!(caller(&openai, &function, &event).await, anonymous);
}

#[tokio::test]
async fn a_health_check_gets_an_answer_and_no_record() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[("ALLOWED_ORIGINS", "https://app.example.com")]).await;
    let check = |path: &str| {
        let mut event = balanced(&json!({"user-agent": "ELB-HealthChecker/2.0"}));
        event["httpMethod"] = "GET".into();
        event["path"] = path.into();
        event
    };
    let mut lists = check("/");
    lists["headers"] = json!(null);
    lists["multiValueHeaders"] = json!({"user-agent": ["ELB-HealthChecker/2.0"]});
    for event in [check("/"), check("/token"), check("/health"), lists] {
        let reply = function.invoke(&event).await;
        assert_eq!((reply.status, &reply.body), (200, &json!({"status": "healthy"})), "{event}");
        assert_eq!(reply.whole["statusDescription"], "200 OK");
        assert_eq!(reply.headers["cache-control"], "no-store");
    }
    let mut elsewhere = http_api(&json!({"headers": {"user-agent": "ELB-HealthChecker/2.0"}}));
    elsewhere["requestContext"]["http"]["method"] = "GET".into();
    assert_refused(&function.invoke(&elsewhere).await, 405, "method_not_allowed");
    assert!(openai.requests().is_empty());
    assert_eq!(records(&function.stop().await).len(), 1, "only the request through the HTTP API");
}
