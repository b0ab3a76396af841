//! The page, and the headers that restrict it to its own files and to one OpenAI.

use axum::{
    Json, Router,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware,
    response::Response,
    routing::get,
};
use serde_json::Value;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Each file's path, content type and content.
const FILES: [(&str, &str, &str); 25] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/parts.css", CSS, include_str!("page/parts.css")),
    ("/mark.svg", SVG, include_str!("page/mark.svg")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/session_panel.js", SCRIPT, include_str!("page/session_panel.js")),
    ("/token_panel.js", SCRIPT, include_str!("page/token_panel.js")),
    ("/call_panel.js", SCRIPT, include_str!("page/call_panel.js")),
    ("/limit_panel.js", SCRIPT, include_str!("page/limit_panel.js")),
    ("/profile_form.js", SCRIPT, include_str!("page/profile_form.js")),
    ("/token.js", SCRIPT, include_str!("page/token.js")),
    ("/call.js", SCRIPT, include_str!("page/call.js")),
    ("/call_end.js", SCRIPT, include_str!("page/call_end.js")),
    ("/token_call.js", SCRIPT, include_str!("page/token_call.js")),
    ("/server_call.js", SCRIPT, include_str!("page/server_call.js")),
    ("/refusal.js", SCRIPT, include_str!("page/refusal.js")),
    ("/count_down.js", SCRIPT, include_str!("page/count_down.js")),
    ("/wait.js", SCRIPT, include_str!("page/wait.js")),
    ("/messages.js", SCRIPT, include_str!("page/messages.js")),
    ("/notice.js", SCRIPT, include_str!("page/notice.js")),
    ("/levels.js", SCRIPT, include_str!("page/levels.js")),
    ("/transcript.js", SCRIPT, include_str!("page/transcript.js")),
    ("/events.js", SCRIPT, include_str!("page/events.js")),
    ("/elements.js", SCRIPT, include_str!("page/elements.js")),
    ("/copy.js", SCRIPT, include_str!("page/copy.js")),
];

/// Serves the page and its `profiles`. The page may connect to itself and to `openai`, an origin.
pub fn routes(profiles: Value, openai: &str) -> Result<Router, header::InvalidHeaderValue> {
    let policy = format!(
        "default-src 'self'; connect-src 'self' {openai}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         object-src 'none'"
    );
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Otherwise the page of a new build could run with cached scripts of an earlier one.
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("permissions-policy"), "microphone=(self), camera=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_str(value)?);
    }
    let profiles = Router::new().route("/profiles", get(move || std::future::ready(Json(profiles.clone()))));
    let files = FILES.into_iter().fold(profiles, |router, (path, kind, content)| {
        router.route(path, get(move || std::future::ready(([(header::CONTENT_TYPE, kind)], content))))
    });
    Ok(files.layer(middleware::map_response(move |mut response: Response| {
        response.headers_mut().extend(headers.clone());
        std::future::ready(response)
    })))
}
