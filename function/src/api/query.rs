//! The query of a request.

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use url::form_urlencoded;

/// The names and values of an event's query, in their order.
///
/// An HTTP API and a function URL have it as it was sent. A REST API has decoded values, a load balancer has values as they
/// were sent (AWS's guides for the payloads, and for Lambda functions as targets).
pub fn of(event: &RawValue) -> Vec<(String, String)> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Fields {
        raw_query_string: Value,
        query_string_parameters: Value,
        multi_value_query_string_parameters: Value,
        request_context: Value,
    }

    let fields: Fields = serde_json::from_str(event.get()).unwrap_or_default();
    if let Some(query) = fields.raw_query_string.as_str() {
        return form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    }
    let is_balanced = fields.request_context.get("elb").is_some_and(Value::is_object);
    let text = |text: &str| {
        if is_balanced {
            // As the value of a pair, since the text itself may contain an equals sign.
            let pair = format!("={}", text.replace('&', "%26"));
            let decoded = form_urlencoded::parse(pair.as_bytes()).next();
            return decoded.map(|(_, text)| text.into_owned()).unwrap_or_default();
        }
        text.to_owned()
    };
    let maps = [fields.multi_value_query_string_parameters, fields.query_string_parameters];
    let map = maps.into_iter().find_map(|map| if let Value::Object(map) = map { Some(map) } else { None });
    let pairs = map.unwrap_or_default().into_iter().flat_map(|(name, values)| {
        let values = match values {
            Value::Array(values) => values,
            value => vec![value],
        };
        values.into_iter().filter_map(move |value| Some((name.clone(), value.as_str()?.to_owned())))
    });
    pairs.map(|(name, value)| (text(&name), text(&value))).collect()
}

/// The query as the fields of a request.
///
/// # Errors
/// The name that occurs more than once.
pub fn fields(query: Vec<(String, String)>) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    for (name, value) in query {
        if fields.contains_key(&name) {
            return Err(name);
        }
        fields.insert(name, value.into());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn query(event: &Value) -> Vec<(String, String)> {
        of(&to_raw_value(event).unwrap())
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    #[test]
    fn every_kind_of_event_has_its_query() {
        let expected = pairs([("a", "b c&d"), ("dcid", "4")]);
        let decoded = json!({"a": "b c&d", "dcid": "4"});
        for event in [
            json!({"rawQueryString": "a=b%20c%26d&dcid=4", "queryStringParameters": {"a": "x"}}),
            json!({"rawQueryString": "a=b+c%26d&dcid=4"}),
            json!({"queryStringParameters": decoded}),
            json!({"queryStringParameters": decoded, "multiValueQueryStringParameters": {"a": ["b c&d"], "dcid": ["4"]}}),
            json!({"requestContext": {"elb": {}}, "queryStringParameters": {"a": "b%20c%26d", "dcid": "4"}}),
            json!({"requestContext": {"elb": {}}, "multiValueQueryStringParameters": {"a": ["b%20c%26d"], "dcid": ["4"]}}),
        ] {
            assert_eq!(query(&event), expected, "{event}");
        }
        for event in [
            json!({"rawQueryString": "topic=b=c&e=&=f"}),
            json!({"queryStringParameters": {"topic": "b=c", "e": "", "": "f"}}),
            json!({"requestContext": {"elb": {}}, "queryStringParameters": {"topic": "b=c", "e": "", "": "f"}}),
            json!({"requestContext": {"elb": {}}, "multiValueQueryStringParameters": {"topic": ["b%3Dc"], "e": [""], "": ["f"]}}),
        ] {
            let mut found = query(&event);
            found.sort();
            assert_eq!(found, pairs([("", "f"), ("e", ""), ("topic", "b=c")]), "{event}");
        }
        for event in [json!({}), json!({"rawQueryString": ""}), json!({"queryStringParameters": null}), json!([])] {
            assert_eq!(query(&event), [], "{event}");
        }
    }

    #[test]
    fn a_field_occurs_once() {
        assert_eq!(
            fields(pairs([("a", "1"), ("b", "2")])),
            Ok(Map::from_iter([("a".into(), "1".into()), ("b".into(), "2".into())]))
        );
        assert_eq!(fields(pairs([("a", "1"), ("a", "1")])), Err("a".to_owned()));
    }
}
