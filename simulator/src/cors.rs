//! CORS for calls: a page of any origin may place a call and read its `Location`.

use axum::{
    extract,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Answers a browser's preflight, and lets the page read the answer to its offer.
///
/// `*` does not cover `Authorization`, so the requested headers are allowed by name.
pub(crate) async fn allow_any_origin(
    method: Method,
    headers: HeaderMap,
    request: extract::Request,
    next: Next,
) -> Response {
    let preflight = method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight { StatusCode::OK.into_response() } else { next.run(request).await };
    if headers.contains_key(header::ORIGIN) {
        let answer = response.headers_mut();
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Location"));
        if preflight {
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
            if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            }
        }
    }
    response
}
