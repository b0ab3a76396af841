//! The answer of `GET /profiles`: every profile with the fields that a caller may set, and how its calls can be placed.

use serde_json::{Map, Value, json};
use token_mint::config::Config;

/// The same file that is compiled into the function.
const PROFILES: &str = include_str!("../../profiles.json");

/// Describes the profiles that a caller of `config` can use. It leaves out the instructions to the model, and the values that
/// a caller's choices stand for.
pub fn describe_profiles(config: &Config, simulated: bool) -> serde_json::Result<Value> {
    let profiles: Map<String, Value> = serde_json::from_str(PROFILES)?;
    let profiles: Map<String, Value> = profiles
        .into_iter()
        .filter_map(|(name, profile)| {
            let fields = profile["caller_may_set"].as_object().into_iter().flatten();
            let fields: Vec<_> =
                fields.map(|(field, setting)| describe_field(field, setting, &profile["session"])).collect();
            let token = config.endpoints.token && profile["call"]["mode"] != "locked";
            let call = profile["call"].as_object().filter(|_| config.endpoints.call);
            let call = call.map(|call| {
                let longest = config.call_limits.longest.as_secs();
                json!({"mode": call["mode"], "max_seconds": call["max_seconds"].as_u64().unwrap_or(longest).min(longest)})
            });
            let is_usable = token || call.is_some();
            let described = json!({"kind": profile["kind"], "fields": fields, "token": token, "call": call});
            is_usable.then_some((name, described))
        })
        .collect();
    Ok(json!({"openai": config.base_url.as_str(), "simulated": simulated, "profiles": profiles}))
}

/// One field: the values to choose from or the rule itself, and the profile's default if that is a number.
fn describe_field(name: &str, setting: &Value, session: &Value) -> Value {
    let mut allow = setting["allow"].clone();
    if let Some(choices) = allow["one_of"].as_object() {
        allow = json!({"one_of": choices.keys().collect::<Vec<_>>()});
    }
    let default = setting["at"].as_str().and_then(|place| session.pointer(place)).filter(|value| value.is_number());
    json!({"name": name, "allow": allow, "default": default})
}
