//! The path of a request, below the stage or base path that the gateway names.
//!
//! The path in an event depends on its kind (AWS's guides for the payloads 1.0 and 2.0, and captured
//! events: aws-powertools/powertools-lambda-python #579 and #621, localstack/localstack #12296,
//! CodeGenieApp/serverless-express #465):
//!
//! - An HTTP API's `rawPath` begins with the stage, unless that is `$default`.
//! - A REST API's `path` has no stage, but on a custom domain it begins with the mapping's base path, and with the stage
//!   where the mapping names none.
//! - Both name the route that they matched, `routeKey` and `resource`, and the values of its variables. The route is below
//!   stage and base path, so where a path ends in it, the rest is in front.
//! - Function URLs and load balancers have the path as it was sent. They name no base path.

use serde_json::{Map, Value};

use crate::calls::Handle;

/// The gateway's description of the route.
#[derive(Debug, Default)]
pub struct Place<'a> {
    /// The name of the stage.
    pub stage: Option<&'a str>,
    /// The route that matched, such as `/token`, `/{proxy+}` or `$default`.
    pub route: Option<&'a str>,
    /// The values of the route's variables.
    pub variables: Option<&'a Map<String, Value>>,
    /// Whether the request came through a custom domain instead of the API's own.
    pub custom_domain: bool,
}

/// The path below stage and base path, such as `/token`.
///
/// Names are compared exactly, as API Gateway does: a different case or percent-encoded letters make a different path.
/// Empty names do not count: REST APIs match a path with a slash at its end, and a page may add `/token` to a URL that
/// ends in one.
pub fn below(place: &Place<'_>, path: &str) -> String {
    let names: Vec<_> = names(path).collect();
    let matched = place.matched();
    let below = match &matched {
        Some(matched) if names.ends_with(matched) => matched.as_slice(),
        _ => {
            let below = match (names.as_slice(), place.stage) {
                ([first, below @ ..], Some(stage)) if *first == stage && !below.is_empty() => below,
                (all, _) => all,
            };
            match below {
                // The route `$default` matches any path, so the base path cannot be separated from the rest. The name of a
                // call is the only one that is longer than one part.
                [.., call, handle] if matched.is_none() && place.custom_domain && is_call(call, handle) => {
                    below.get(below.len().saturating_sub(2)..).unwrap_or_default()
                }
                [_, .., last] if matched.is_none() && place.custom_domain => std::slice::from_ref(last),
                below => below,
            }
        }
    };
    format!("/{}", below.join("/"))
}

fn is_call(call: &str, handle: &str) -> bool {
    call == "call" && Handle::parse(handle).is_some()
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

impl<'a> Place<'a> {
    /// The names of the path that the route matched, if the event contains them.
    fn matched(&self) -> Option<Vec<&'a str>> {
        let route = self.route.filter(|route| route.starts_with('/'))?;
        let mut matched = Vec::new();
        for name in names(route) {
            match name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(variable) => {
                    let value = self.variables?.get(variable.trim_end_matches('+'))?;
                    matched.extend(names(value.as_str()?));
                }
                None => matched.push(name),
            }
        }
        // A function at the root of an API is at `/token` where the base path or the stage has that name.
        Some(matched).filter(|matched| !matched.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(proxy: &str) -> Map<String, Value> {
        Map::from_iter([("proxy".to_owned(), json!(proxy))])
    }

    #[test]
    fn without_stage_or_base_path_the_path_is_unchanged() {
        let place = Place { stage: Some("$default"), ..Place::default() };
        for (sent, path) in [
            ("/token", "/token"),
            ("/token/", "/token"),
            ("//token", "/token"),
            ("/", "/"),
            ("", "/"),
            ("/prod/token", "/prod/token"),
            ("/Token", "/Token"),
            ("/%74oken", "/%74oken"),
            ("/token/x", "/token/x"),
        ] {
            assert_eq!(below(&place, sent), path, "{sent}");
        }
    }

    #[test]
    fn a_stage_is_in_front_of_the_path() {
        for route in [None, Some("$default"), Some("/token")] {
            let place = Place { stage: Some("prod"), route, ..Place::default() };
            assert_eq!(below(&place, "/prod/token"), "/token");
            assert_eq!(below(&place, "/prod/other"), "/other");
            assert_eq!(
                below(&place, "/production/token"),
                if route == Some("/token") { "/token" } else { "/production/token" }
            );
        }
        let place = Place { stage: Some("token"), ..Place::default() };
        assert_eq!((below(&place, "/token"), below(&place, "/token/token")), ("/token".into(), "/token".into()));
    }

    #[test]
    fn the_base_path_follows_from_the_matched_route() {
        let place = Place { stage: Some("prod"), route: Some("/token"), custom_domain: true, ..Place::default() };
        for sent in ["/token", "/v1/token", "/v1/nested/token", "/prod/token", "/v1/prod/token", "/v1/token/"] {
            assert_eq!(below(&place, sent), "/token", "{sent}");
        }
        let of = |proxy: &str, sent: &str| {
            let variables = variables(proxy);
            below(&Place { route: Some("/{proxy+}"), variables: Some(&variables), ..Place::default() }, sent)
        };
        assert_eq!(of("token", "/v1/token"), "/token");
        assert_eq!(of("other/token", "/v1/other/token"), "/other/token");
        assert_eq!(of("elsewhere", "/v1/other"), "/v1/other", "an event that contradicts itself");
        let place = Place { route: Some("/mint/{proxy+}"), ..Place::default() };
        assert_eq!(below(&place, "/mint/token"), "/mint/token", "a variable without a value");
    }

    #[test]
    fn a_route_at_the_root_has_no_base_path() {
        let place = Place { stage: Some("prod"), route: Some("/"), custom_domain: true, ..Place::default() };
        assert_eq!((below(&place, "/token"), below(&place, "/")), ("/token".into(), "/".into()));
    }

    #[test]
    fn on_a_custom_domain_with_a_catch_all_route_the_last_name_counts() {
        for route in [None, Some("$default")] {
            let place = Place { stage: Some("$default"), route, custom_domain: true, ..Place::default() };
            assert_eq!((below(&place, "/v1/token"), below(&place, "/token")), ("/token".into(), "/token".into()));
            assert_eq!(below(&place, "/v1/other"), "/other");
            let call = "/call/AAAAAAAAAAAAAAAAAAAAAAht9k1";
            assert_eq!([below(&place, &format!("/v1{call}")), below(&place, call)], [call, call]);
            assert_eq!(below(&place, "/v1/call/other"), "/other");
        }
    }
}
