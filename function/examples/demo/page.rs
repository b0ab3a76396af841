//! The page, and the headers that keep it to its own files and the one OpenAI.

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

/// Where a file is found, what it is, and what is in it.
const FILES: [(&str, &str, &str); 13] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/parts.css", CSS, include_str!("page/parts.css")),
    ("/mark.svg", SVG, include_str!("page/mark.svg")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/offer.js", SCRIPT, include_str!("page/offer.js")),
    ("/token.js", SCRIPT, include_str!("page/token.js")),
    ("/call.js", SCRIPT, include_str!("page/call.js")),
    ("/words.js", SCRIPT, include_str!("page/words.js")),
    ("/notice.js", SCRIPT, include_str!("page/notice.js")),
    ("/levels.js", SCRIPT, include_str!("page/levels.js")),
    ("/transcript.js", SCRIPT, include_str!("page/transcript.js")),
    ("/events.js", SCRIPT, include_str!("page/events.js")),
];

/// Serves the page and, to it, the `offer`. It may connect to itself and to `openai`, an origin.
pub fn routes(offer: Value, openai: &str) -> Result<Router, header::InvalidHeaderValue> {
    let policy = format!(
        "default-src 'self'; connect-src 'self' {openai}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         object-src 'none'"
    );
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A new build's page is never mixed with the scripts of the last one.
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("permissions-policy"), "microphone=(self), camera=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_str(value)?);
    }
    let offered = Router::new().route("/profiles", get(move || std::future::ready(Json(offer.clone()))));
    let files = FILES.into_iter().fold(offered, |router, (path, kind, content)| {
        router.route(path, get(move || std::future::ready(([(header::CONTENT_TYPE, kind)], content))))
    });
    Ok(files.layer(middleware::map_response(move |mut response: Response| {
        response.headers_mut().extend(headers.clone());
        std::future::ready(response)
    })))
}
