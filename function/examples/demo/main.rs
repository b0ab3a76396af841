//! Serves the real handler on a local port, with a page that requests a token and starts a call with it.
//!
//! Without a configured key, OpenAI is simulated. The demo does API Gateway's part itself: it turns HTTP into an event
//! and back, and answers CORS.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output for a person")]
#![allow(clippy::indexing_slicing, reason = "indexing a `Value`: an absent member is null")]

mod page;
mod profiles;

use std::{
    env,
    error::Error,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
    routing::any,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use lambda_runtime::{Context, LambdaEvent};
use openai_simulator::Simulator;
use serde_json::{Map, Value, json};
use token_mint::{admission::origin::Origins, config::Config, handler::Handler, log, secret::Source};
use tokio::net::TcpListener;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// The timeout of an invocation, as deployed.
const INVOCATION_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut config = Config::from_env()?;
    let port = parse_port(env::var("PORT").ok().as_deref())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| listen_error(port, &error))?;
    let port = listener.local_addr()?.port();
    log::start(config.log_level);
    let simulator = start_simulator(&mut config).await?;
    let every_origin_requested = env::var("ALLOWED_ORIGINS").is_ok_and(|origins| origins.contains('*'));
    config.allowed_origins = match config.allowed_origins {
        // With a paid key, any website open in the same browser could otherwise get tokens here.
        Origins::Any if simulator.is_none() && !every_origin_requested => Origins::Only(own_origins(port)),
        Origins::Any => Origins::Any,
        Origins::Only(others) => Origins::Only(own_origins(port).into_iter().chain(others).collect()),
    };
    let openai = config.base_url.to_string();
    let profiles = profiles::describe_profiles(&config, simulator.is_some())?;
    let page = page::routes(profiles, &config.base_url.origin().ascii_serialization())?;
    let cors = cors(&config.allowed_origins);
    let handler = Arc::new(Handler::new(config).await?);
    handler.warm().await;
    if let Some(keeper) = handler.keeper_in_memory() {
        tokio::spawn(keeper.keep());
    }

    let routes = Router::new()
        .route("/token", any(handle_request))
        .route("/call", any(handle_request))
        .route("/call/{handle}", any(handle_request))
        .with_state(handler)
        .layer(cors)
        .layer(middleware::map_response(preflight_without_content))
        .merge(page)
        // The simulator is controlled at the demo's own port, because its own port varies.
        .merge(simulator.as_ref().map(Simulator::control_routes).unwrap_or_default())
        .into_make_service_with_connect_info::<SocketAddr>();
    let upstream = if simulator.is_some() { "a simulated OpenAI" } else { "OpenAI's API" };
    println!("Token Mint is running, with {upstream} at {openai}.\n");
    println!("  Open  http://127.0.0.1:{port}");
    println!("  or    curl -X POST http://127.0.0.1:{port}/token\n");
    if simulator.is_some() {
        println!("To make the next request for a token fail:");
        println!(
            "  curl -X POST http://127.0.0.1:{port}/simulator/faults -d '{{\"fault\": \"insufficient-quota\"}}'\n"
        );
    }
    let serve = async {
        println!("A record of each request appears below. Stop with Ctrl-C.");
        axum::serve(listener, routes).await
    };
    tokio::select! {
        // In this order: Ctrl-C stops the demo cleanly from the moment at which the line above appears.
        biased;
        result = tokio::signal::ctrl_c() => result?,
        result = serve => result?,
    }
    Ok(())
}

fn parse_port(value: Option<&str>) -> Result<u16, String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(8080) };
    value.parse().map_err(|_| format!("PORT is {value:?}: expected a port number from 0 to 65535"))
}

/// Replaces OpenAI by a simulator if no key is configured.
async fn start_simulator(config: &mut Config) -> Result<Option<Simulator>, Box<dyn Error + Send + Sync>> {
    if !matches!(config.key_source, Source::Nowhere) {
        return Ok(None);
    }
    let simulator = match Simulator::start_on(8081).await {
        Ok(simulator) => simulator,
        Err(_) => Simulator::start().await?,
    };
    config.key_source = Source::Given("sk-simulated".into());
    config.base_url = simulator.base_url().parse()?;
    Ok(Some(simulator))
}

/// The error message for a port that the demo cannot listen on, with a remedy.
fn listen_error(port: u16, error: &io::Error) -> String {
    let other = if port == 8090 { 8091 } else { 8090 };
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("Port {port} is in use. Stop the program that uses it, or run `make demo PORT={other}`.")
        }
        ErrorKind::PermissionDenied => {
            format!(
                "No permission to listen on port {port}: ports below 1024 require root. Run `make demo PORT={other}`."
            )
        }
        _ => format!("Cannot listen on port {port} of 127.0.0.1: {error}."),
    }
}

/// The origins of the demo's own page, by both names of this machine.
fn own_origins(port: u16) -> Vec<String> {
    let origin = |host| format!("http://{host}:{port}").trim_end_matches(":80").to_owned();
    ["127.0.0.1", "localhost"].map(origin).to_vec()
}

/// CORS as the deployed API with calls answers it. The demo checks no sign-in and ignores its header.
fn cors(allowed: &Origins) -> CorsLayer {
    let origins = match allowed {
        Origins::Any => AllowOrigin::any(),
        Origins::Only(origins) => {
            AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
        }
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST, Method::DELETE])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION, HeaderName::from_static("x-openai-agents-sdk")])
        .expose_headers([
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            header::DATE,
            header::LOCATION,
            HeaderName::from_static("call-expires-at"),
        ])
        .max_age(Duration::from_secs(3600))
}

/// Answers a preflight with 204, as API Gateway does.
async fn preflight_without_content(mut response: Response) -> Response {
    if response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_METHODS) {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    response
}

async fn handle_request(
    State(handler): State<Arc<Handler>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let headers: Map<String, Value> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let event = json!({
        "version": "2.0",
        "rawPath": uri.path(),
        "rawQueryString": uri.query().unwrap_or_default(),
        "headers": headers,
        "requestContext": {"http": {"method": method.as_str(), "path": uri.path(), "sourceIp": peer.ip().to_string()}},
        "body": STANDARD.encode(body),
        "isBase64Encoded": true,
    });
    match invoke(handler, event).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn invoke(handler: Arc<Handler>, event: Value) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut context = Context::default();
    context.request_id = format!("demo-{}", now.as_nanos());
    context.deadline = now.saturating_add(INVOCATION_TIMEOUT).as_millis().try_into()?;
    let event = LambdaEvent::new(serde_json::from_value(event)?, context);
    // A task of its own, since Lambda too finishes an invocation whose client has gone.
    let reply = tokio::spawn(async move { handler.handle(event).await }).await??;
    let reply = serde_json::to_value(reply)?;

    let status = reply["statusCode"].as_u64().unwrap_or(500).try_into()?;
    let mut response = reply["body"].as_str().unwrap_or_default().to_owned().into_response();
    *response.status_mut() = StatusCode::from_u16(status)?;
    for (name, value) in reply["headers"].as_object().into_iter().flatten() {
        let value = HeaderValue::from_str(value.as_str().unwrap_or_default())?;
        response.headers_mut().insert(HeaderName::try_from(name)?, value);
    }
    Ok(response)
}
