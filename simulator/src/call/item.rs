//! The items of a conversation.

use serde_json::{Value, json};

use super::{response::tokens, turn_detection::Utterance};
use crate::{id::new_id, refusal::Refusal, session_document::merge};

#[derive(Debug)]
struct Item {
    document: Value,
    /// Its duration, if it was spoken.
    spoken: Option<Utterance>,
}

/// All items of a conversation, in order.
#[derive(Debug, Default)]
pub(super) struct Items(Vec<Item>);

impl Items {
    pub(super) fn push(&mut self, document: Value, spoken: Option<Utterance>) {
        self.0.push(Item { document, spoken });
    }

    pub(super) fn last_id(&self) -> Option<String> {
        self.0.last().and_then(|item| item.document["id"].as_str()).map(str::to_owned)
    }

    pub(super) fn find(&self, id: &str) -> Result<&Value, Refusal> {
        self.position(id)
            .and_then(|at| self.0.get(at))
            .map(|item| &item.document)
            .ok_or_else(|| unknown_item("item_id", id))
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<(), Refusal> {
        let at = self.position(id).ok_or_else(|| unknown_item("item_id", id))?;
        self.0.remove(at);
        Ok(())
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.0.iter().position(|item| item.document["id"] == id)
    }

    pub(super) fn set_transcript(&mut self, id: &str, transcript: &str) {
        let item = self.0.iter_mut().rfind(|item| item.document["id"] == id);
        if let Some(content) = item.and_then(|item| item.document.pointer_mut("/content/0")) {
            merge(content, &json!({ "transcript": transcript }));
        }
    }

    /// Refuses a truncation that the item's audio does not allow.
    pub(super) fn truncate(&self, id: &str, audio_end_ms: u64) -> Result<(), Refusal> {
        let at = self.position(id).ok_or_else(|| unknown_item("item_id", id))?;
        match self.0.get(at) {
            Some(Item { document, spoken: Some(spoken) }) if document["role"] == "assistant" => {
                if audio_end_ms <= spoken.audio_ms {
                    return Ok(());
                }
                let message =
                    format!("Audio content of {}ms is already shorter than {audio_end_ms}ms", spoken.audio_ms);
                Err(Refusal::new(400, message, None, "invalid_value"))
            }
            _ => {
                let message = "Only model output audio messages can be truncated.";
                Err(Refusal::new(400, message, None, "invalid_value"))
            }
        }
    }

    /// Inserts the client's item after the one with the id `after`, at the start if that is `root`, or at the end
    /// without it. Returns the item, and the id of the one before it.
    pub(super) fn create(&mut self, asked: &Value, after: Option<&str>) -> Result<(Value, Option<String>), Refusal> {
        let mut item = asked.clone();
        check_item(&item)?;
        if !item["id"].is_string() {
            item["id"] = new_id("item").into();
        } else if self.position(item["id"].as_str().unwrap_or_default()).is_some() {
            let message = format!("Error adding item: an item with the id {} already exists.", item["id"]);
            return Err(Refusal::invalid("item.id", message, "invalid_value"));
        }
        item["object"] = "realtime.item".into();
        item["status"] = "completed".into();
        let at = match after {
            None => self.0.len(),
            Some("root") => 0,
            Some(after) => {
                self.position(after).ok_or_else(|| unknown_item("previous_item_id", after))?.saturating_add(1)
            }
        };
        let before = at.checked_sub(1).and_then(|at| self.0.get(at)).and_then(|item| item.document["id"].as_str());
        let before = before.map(str::to_owned);
        self.0.insert(at, Item { document: item.clone(), spoken: None });
        Ok((item, before))
    }

    /// The text of the simulator's answer to the last item.
    pub(super) fn reply(&self) -> String {
        let last = self.0.iter().rfind(|item| item.document["role"] != "assistant");
        let heard = match last {
            Some(Item { spoken: Some(heard), .. }) => format!("I heard you speak for {}.", heard.speech_length()),
            Some(Item { document, .. }) if document["role"] == "user" => {
                format!("You wrote: {}", written_text(document))
            }
            Some(Item { document, .. }) if document["type"] == "function_call_output" => {
                format!("Your function returned: {}", document["output"].as_str().unwrap_or_default())
            }
            _ => "You have not said anything yet.".to_owned(),
        };
        // A long text is not repeated in full.
        let heard = heard.split_whitespace().take(40).collect::<Vec<_>>().join(" ");
        format!("This is the simulator. {heard}")
    }

    /// The input tokens of a response, of text and of audio. `more` are added for its instructions.
    pub(super) fn tokens(&self, more: u64) -> (u64, u64) {
        self.0.iter().fold((more, 0_u64), |(of_text, of_audio), item| match item.spoken {
            Some(spoken) => (of_text, of_audio.saturating_add(spoken.audio_ms.div_ceil(100))),
            None => (of_text.saturating_add(tokens(&written_text(&item.document))), of_audio),
        })
    }
}

/// All text and transcripts of an item.
fn written_text(item: &Value) -> String {
    let parts = item["content"].as_array().into_iter().flatten();
    let texts = parts.filter_map(|part| part["text"].as_str().or_else(|| part["transcript"].as_str()));
    texts.collect::<Vec<_>>().join(" ")
}

fn unknown_item(param: &str, id: &str) -> Refusal {
    Refusal::invalid(param, format!("Item with {param} '{id}' does not exist."), "item_not_found")
}

/// Refuses a document that is not an item of a conversation.
fn check_item(item: &Value) -> Result<(), Refusal> {
    let choice = |param: &str, value: &Value, choices: &[&str]| match value.as_str() {
        Some(text) if choices.contains(&text) => Ok(()),
        Some(text) => {
            let message = format!("Invalid value: '{text}'. Supported values are: '{}'.", choices.join("', '"));
            Err(Refusal::invalid(param, message, "invalid_value"))
        }
        None => Err(Refusal::invalid(
            param,
            format!("Missing required parameter: '{param}'."),
            "missing_required_parameter",
        )),
    };
    let kinds =
        ["message", "function_call", "function_call_output", "mcp_approval_response", "mcp_list_tools", "mcp_call"];
    choice("item.type", &item["type"], &kinds)?;
    if item["type"] != "message" {
        return Ok(());
    }
    choice("item.role", &item["role"], &["system", "user", "assistant"])?;
    let parts: &[&str] = match item["role"].as_str() {
        Some("user") => &["input_text", "input_audio", "input_image"],
        Some("assistant") => &["output_text", "output_audio"],
        _ => &["input_text"],
    };
    let Some(content) = item["content"].as_array() else {
        return choice("item.content", &json!(null), &[]);
    };
    content
        .iter()
        .enumerate()
        .try_for_each(|(at, part)| choice(&format!("item.content[{at}].type"), &part["type"], parts))
}
