//! The kinds of event: the five that are a caller's request, and events of other services, which never get a token.

use openai_simulator::Simulator;
use serde_json::{Value, json};

use crate::{
    function::{Function, http_api, records},
    refusals::assert_refused,
};

const NOT_A_REQUEST: &str =
    "The event is not a caller's request from an HTTP API, a REST API, a function URL or a load balancer";

fn rest_api(fields: &Value) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../events/rest-api.json")).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

fn without(mut event: Value, fields: &[&str]) -> Value {
    for field in fields {
        event.as_object_mut().unwrap().remove(*field);
    }
    event
}

/// Samples of AWS's developer guides, shortened.
fn events_of_other_services() -> Vec<(&'static str, Value)> {
    let method_arn = "arn:aws:execute-api:eu-west-1:123456789012:a1b2c3d4e5/prod/POST/token";
    let body = ["body", "isBase64Encoded"];
    let web_socket = json!({
        "requestContext": {"routeKey": "$default", "eventType": "MESSAGE", "connectionId": "abc=", "messageId": "m",
            "messageDirection": "IN", "apiId": "a1b2c3d4e5", "stage": "prod", "identity": {"sourceIp": "203.0.113.7"}},
        "body": "{}", "isBase64Encoded": false,
    });
    let mut web_socket_with_method = rest_api(&json!({}));
    web_socket_with_method["requestContext"]["connectionId"] = "abc=".into();
    web_socket_with_method["requestContext"]["eventType"] = "CONNECT".into();
    vec![
        (
            "a REQUEST authorizer of a REST API",
            without(rest_api(&json!({"type": "REQUEST", "methodArn": method_arn})), &body),
        ),
        (
            "a REQUEST authorizer of a REST API with the fields of a body",
            rest_api(&json!({"type": "REQUEST", "methodArn": method_arn})),
        ),
        (
            "a REQUEST authorizer of an HTTP API",
            without(http_api(&json!({"type": "REQUEST", "routeArn": method_arn, "identitySource": ["x"]})), &body),
        ),
        (
            "a REQUEST authorizer of an HTTP API, without its type",
            without(http_api(&json!({"routeArn": method_arn, "identitySource": ["x"]})), &body),
        ),
        (
            "a REQUEST authorizer with payload 1.0",
            without(
                rest_api(&json!({"version": "1.0", "type": "REQUEST", "methodArn": method_arn,
                    "identitySource": "user1,123", "authorizationToken": "user1,123"})),
                &body,
            ),
        ),
        ("a TOKEN authorizer", json!({"type": "TOKEN", "authorizationToken": "Bearer x", "methodArn": method_arn})),
        ("a message of a WebSocket API", web_socket),
        ("a connection of a WebSocket API", web_socket_with_method),
        (
            "a Bedrock agent with an API schema",
            json!({"messageVersion": "1.0", "agent": {"name": "a", "id": "i", "alias": "x", "version": "1"},
                "inputText": "hello", "sessionId": "1", "actionGroup": "g", "apiPath": "/token", "httpMethod": "POST",
                "parameters": [], "requestBody": {"content": {}}, "sessionAttributes": {}}),
        ),
        (
            "a Bedrock agent, shortened",
            json!({"messageVersion": "1.0", "agent": {}, "apiPath": "/token", "httpMethod": "POST"}),
        ),
        (
            "a Bedrock agent with function details",
            json!({"messageVersion": "1.0", "agent": {}, "actionGroup": "g", "function": "f", "parameters": []}),
        ),
        (
            "an AppSync resolver",
            json!({"arguments": {}, "identity": {"sub": "x", "sourceIp": ["203.0.113.7"]}, "source": null,
                "request": {"headers": {"host": "x"}}, "info": {"fieldName": "token", "parentTypeName": "Mutation"}}),
        ),
        (
            "an AppSync authorizer",
            json!({"authorizationToken": "x", "requestContext": {"apiId": "a", "accountId": "1", "requestId": "r"},
                "requestHeaders": {"origin": "https://app.example.com"}}),
        ),
        (
            "a Cognito trigger",
            json!({"version": "1", "triggerSource": "PreSignUp_SignUp", "region": "eu-west-1", "userPoolId": "p",
                "userName": "u", "callerContext": {}, "request": {"userAttributes": {}}, "response": {}}),
        ),
        (
            "SQS",
            json!({"Records": [{"messageId": "1", "body": "{\"httpMethod\": \"POST\"}", "eventSource": "aws:sqs"}]}),
        ),
        ("SNS", json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "{}"}}]})),
        ("S3", json!({"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": "b"}}}]})),
        (
            "Lambda@Edge",
            json!({"Records": [{"cf": {"config": {"eventType": "viewer-request"},
                "request": {"clientIp": "203.0.113.7", "method": "POST", "uri": "/token", "headers": {}}}}]}),
        ),
        (
            "EventBridge",
            json!({"version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}),
        ),
        (
            "VPC Lattice",
            json!({"raw_path": "/token", "method": "POST", "headers": {"x-forwarded-for": "10.0.0.1"},
                "query_string_parameters": {}, "body": "{}", "is_base64_encoded": false}),
        ),
        (
            "VPC Lattice, version 2.0",
            json!({"version": "2.0", "path": "/token", "method": "POST", "headers": {"accept": ["*/*"]}, "body": "{}",
                "isBase64Encoded": false, "requestContext": {"serviceNetworkArn": "arn:aws:vpc-lattice:x",
                "identity": {"sourceVpcArn": "arn:aws:ec2:x"}, "region": "eu-west-1", "timeEpoch": "1690497599177430"}}),
        ),
        (
            "Alexa",
            json!({"version": "1.0", "session": {"new": true}, "context": {}, "request": {"type": "LaunchRequest"}}),
        ),
        ("Step Functions", json!({"Payload": {"httpMethod": "POST"}, "Execution": {"Id": "1"}})),
        ("CloudFormation", json!({"RequestType": "Create", "ResponseURL": "https://x", "StackId": "s"})),
        ("CloudWatch Logs", json!({"awslogs": {"data": "H4sI"}})),
        ("Kinesis Firehose", json!({"invocationId": "1", "deliveryStreamArn": "arn:x", "records": []})),
        ("Lex", json!({"messageVersion": "1.0", "invocationSource": "DialogCodeHook", "bot": {"name": "b"}})),
        ("Amazon Connect", json!({"Name": "ContactFlowEvent", "Details": {"ContactData": {}}})),
        ("an unknown service", json!({"httpMethod": "POST", "action": "mint", "body": "{}"})),
    ]
}

#[tokio::test]
async fn an_event_of_another_service_gets_no_token() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let events = events_of_other_services();
    for (name, event) in &events {
        let reply = function.invoke(event).await;
        assert_eq!(reply.body["details"], NOT_A_REQUEST, "{name}");
        assert_refused(&reply, 400, "invalid_request");
    }
    assert!(openai.requests().is_empty());
    let records = records(&function.stop().await);
    assert_eq!(records.len(), events.len());
    for record in records {
        assert_eq!(record["cause"], "the event is not an HTTP request: the event is not the request of a caller");
    }
}

#[tokio::test]
async fn an_event_that_a_person_wrote_needs_only_what_they_want_to_send() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for event in [
        json!({"httpMethod": "POST", "body": "{}"}),
        json!({"httpMethod": "POST"}),
        json!({"httpMethod": "POST", "path": "/token", "headers": {"origin": "https://a.example"}, "body": null}),
        json!({"httpMethod": "POST", "queryStringParameters": {"a": "b"}, "stageVariables": null}),
        json!({"version": "2.0", "requestContext": {"http": {"method": "POST"}}, "body": "{}"}),
        // A field that AWS may add to a payload.
        http_api(&json!({"newField": {"a": 1}})),
        rest_api(&json!({"newField": {"a": 1}})),
    ] {
        let reply = function.invoke(&event).await;
        assert_eq!(reply.status, 200, "{event}: {}", reply.body);
    }
}

#[tokio::test]
async fn a_flag_in_another_spelling_is_understood() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for (flag, body) in [
        (json!("false"), r#"{"voice": "ash"}"#),
        (json!("False"), r#"{"voice": "ash"}"#),
        (json!(0), r#"{"voice": "ash"}"#),
        (json!(null), r#"{"voice": "ash"}"#),
        (json!("true"), "eyJ2b2ljZSI6ICJhc2gifQ=="),
        (json!(1), "eyJ2b2ljZSI6ICJhc2gifQ=="),
        (json!(true), "eyJ2b2ljZSI6ICJhc2gifQ=="),
    ] {
        let reply = function.invoke(&http_api(&json!({"isBase64Encoded": flag, "body": body}))).await;
        assert_eq!((reply.status, reply.body["voice"].as_str()), (200, Some("ash")), "{flag}: {}", reply.body);
    }
}

#[tokio::test]
async fn a_field_of_another_type_is_named() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let mut balanced: Value = serde_json::from_str(include_str!("../../events/load-balancer.json")).unwrap();
    balanced["headers"]["x-forwarded-for"] = 5.into();
    for (event, field) in [
        (http_api(&json!({"isBase64Encoded": "maybe"})), "isBase64Encoded"),
        (http_api(&json!({"isBase64Encoded": true, "body": "{}"})), "body"),
        (http_api(&json!({"body": {"voice": "ash"}})), "body"),
        (http_api(&json!({"body": 5})), "body"),
        (http_api(&json!({"headers": "origin"})), "headers"),
        (http_api(&json!({"headers": {"origin": 5}})), "headers.origin"),
        (http_api(&json!({"requestContext": {"http": {"method": 5}}})), "requestContext.http.method"),
        (
            http_api(&json!({"requestContext": {"http": {"method": "POST", "sourceIp": ["203.0.113.7"]}}})),
            "requestContext.http.sourceIp",
        ),
        (rest_api(&json!({"httpMethod": ["POST"]})), "httpMethod"),
        (rest_api(&json!({"multiValueHeaders": []})), "multiValueHeaders"),
        (rest_api(&json!({"multiValueHeaders": {"Origin": [null]}})), "multiValueHeaders.Origin"),
        (rest_api(&json!({"path": 5})), "path"),
        (balanced, "headers.x-forwarded-for"),
    ] {
        let reply = function.invoke(&event).await;
        let details = assert_refused(&reply, 400, "invalid_request");
        assert_eq!(details, format!("Invalid value in the event's field '{field}'"));
    }
    assert!(openai.requests().is_empty());
    for event in [
        http_api(&json!({"headers": null})),
        http_api(&json!({"headers": {"content-length": 2, "x-none": null, "x-object": {}}})),
        rest_api(&json!({"multiValueHeaders": {"Origin": "https://app.example.com"}})),
        rest_api(&json!({"multiValueHeaders": null, "pathParameters": null, "stageVariables": null})),
    ] {
        assert_eq!(function.invoke(&event).await.status, 200, "{event}");
    }
}

#[tokio::test]
async fn a_refusal_of_a_load_balancers_event_has_the_form_for_a_load_balancer() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let mut event: Value = serde_json::from_str(include_str!("../../events/load-balancer.json")).unwrap();
    event["body"] = json!({});
    let reply = function.invoke(&event).await;
    assert_eq!(reply.whole["statusDescription"], "400 Bad Request");
}
