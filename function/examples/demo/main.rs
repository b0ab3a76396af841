//! The real handler behind a port of one's own machine, with a page that asks it for a token and calls with it.
//!
//! Where no key is configured, OpenAI is simulated. What API Gateway does in production is done here
//! by hand: turning HTTP into an event and back, and CORS.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that speaks to a person")]
#![allow(clippy::indexing_slicing, reason = "reading JSON: what is not there reads as null")]

mod offer;
mod page;

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
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
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

/// As long as an invocation of the deployed function may take.
const INVOCATION: Duration = Duration::from_secs(30);

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
    let port = port(env::var("PORT").ok().as_deref())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| not_listening(port, &error))?;
    let port = listener.local_addr()?.port();
    log::start(config.log_level);
    let simulator = simulate(&mut config).await?;
    let any_is_meant = env::var("ALLOWED_ORIGINS").is_ok_and(|origins| origins.contains('*'));
    config.allowed_origins = match config.allowed_origins {
        // With a key that costs money, any page that one happens to visit could get tokens here otherwise.
        Origins::Any if simulator.is_none() && !any_is_meant => Origins::Only(own_origins(port)),
        Origins::Any => Origins::Any,
        Origins::Only(others) => Origins::Only(own_origins(port).into_iter().chain(others).collect()),
    };
    let openai = config.base_url.to_string();
    let offer = offer::offer(&openai, simulator.is_some())?;
    let page = page::routes(offer, &config.base_url.origin().ascii_serialization())?;
    let cors = cors(&config.allowed_origins);
    let handler = Arc::new(Handler::new(config).await?);
    handler.warm().await;

    let routes = Router::new()
        .route("/token", any(token))
        .with_state(handler)
        .layer(cors)
        .layer(middleware::map_response(like_api_gateway))
        .merge(page)
        // A demo's faults are planned at its own port, whatever port its simulator found free.
        .merge(simulator.as_ref().map(Simulator::control_routes).unwrap_or_default())
        .into_make_service_with_connect_info::<SocketAddr>();
    let what = if simulator.is_some() { "a simulated OpenAI" } else { "OpenAI's API" };
    println!("Token Mint is up, with {what} at {openai}.\n");
    println!("  Open  http://127.0.0.1:{port}");
    println!("  or    curl -X POST http://127.0.0.1:{port}/token\n");
    if simulator.is_some() {
        println!("Make the next request for a token fail:");
        println!(
            "  curl -X POST http://127.0.0.1:{port}/simulator/faults -d '{{\"fault\": \"insufficient-quota\"}}'\n"
        );
    }
    println!("Each request's record appears below. Stop with Ctrl-C.");
    tokio::select! {
        served = axum::serve(listener, routes).into_future() => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    Ok(())
}

fn port(value: Option<&str>) -> Result<u16, String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(8080) };
    value.parse().map_err(|_| format!("PORT is {value:?}: expected a port number from 0 to 65535"))
}

/// Puts a simulator in OpenAI's place where nothing says what key to use.
async fn simulate(config: &mut Config) -> Result<Option<Simulator>, Box<dyn Error + Send + Sync>> {
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

/// Why the port cannot be had, and what to run instead.
fn not_listening(port: u16, error: &io::Error) -> String {
    let other = if port == 8090 { 8091 } else { 8090 };
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("Port {port} is taken: end the program that listens there, or run `make demo PORT={other}`.")
        }
        ErrorKind::PermissionDenied => {
            format!("You may not listen on port {port}: ports below 1024 need root. Run `make demo PORT={other}`.")
        }
        _ => format!("Cannot listen on port {port} of 127.0.0.1: {error}."),
    }
}

/// The demo's own page, by both names of this machine.
fn own_origins(port: u16) -> Vec<String> {
    let origin = |host| format!("http://{host}:{port}").trim_end_matches(":80").to_owned();
    ["127.0.0.1", "localhost"].map(origin).to_vec()
}

/// CORS as the deployed API answers it where users sign in. The demo checks no sign-in: it passes the header over.
fn cors(allowed: &Origins) -> CorsLayer {
    let origins = match allowed {
        Origins::Any => AllowOrigin::any(),
        Origins::Only(origins) => {
            AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
        }
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION])
        .expose_headers([
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
        ])
        .max_age(Duration::from_secs(3600))
}

/// API Gateway answers a preflight with 204.
async fn like_api_gateway(mut response: Response) -> Response {
    if response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_METHODS) {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    response
}

async fn token(
    State(handler): State<Arc<Handler>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let headers: Map<String, Value> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let event = json!({
        "version": "2.0",
        "rawPath": "/token",
        "headers": headers,
        "requestContext": {"http": {"method": method.as_str(), "path": "/token", "sourceIp": peer.ip().to_string()}},
        "body": STANDARD.encode(body),
        "isBase64Encoded": true,
    });
    match answer(handler, event).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn answer(handler: Arc<Handler>, event: Value) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut context = Context::default();
    context.request_id = format!("demo-{}", now.as_nanos());
    context.deadline = now.saturating_add(INVOCATION).as_millis().try_into()?;
    let reply = handler.handle(LambdaEvent::new(serde_json::from_value(event)?, context)).await?;
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
