//! What the page can offer: every profile with what it lets a caller set.

use serde_json::{Map, Value, json};

/// The very file that the mint has compiled in.
const PROFILES: &str = include_str!("../../profiles.json");

/// The answer of `GET /profiles`, for sessions of the OpenAI at `openai`. What a profile says to the model, and what
/// the words of a caller stand for, is not in it.
pub fn offer(openai: &str, simulated: bool) -> serde_json::Result<Value> {
    let profiles: Map<String, Value> = serde_json::from_str(PROFILES)?;
    let profiles: Map<String, Value> = profiles
        .into_iter()
        .map(|(name, profile)| {
            let fields = profile["caller_may_set"].as_object().into_iter().flatten();
            let fields: Vec<_> = fields.map(|(field, setting)| offered(field, setting, &profile["session"])).collect();
            (name, json!({"kind": profile["kind"], "fields": fields}))
        })
        .collect();
    Ok(json!({"openai": openai, "simulated": simulated, "profiles": profiles}))
}

/// One field: the words that it may be, or the rule as it is, and for a number what those get who set nothing.
fn offered(field: &str, setting: &Value, session: &Value) -> Value {
    let mut allow = setting["allow"].clone();
    if let Some(named) = allow["one_of"].as_object() {
        allow = json!({"one_of": named.keys().collect::<Vec<_>>()});
    }
    let own = setting["at"].as_str().and_then(|place| session.pointer(place)).filter(|own| own.is_number());
    json!({"name": field, "allow": allow, "own": own})
}
