//! The name of a call.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};

/// The length of 128 random bits in base64.
const RANDOM: usize = 22;
/// The length of the minute, in base 36: enough until the year 2085.
const MINUTE: usize = 5;
/// The number of items that name the calls of one minute. With one, a thousand calls that end in the same minute would exceed
/// what DynamoDB writes to an item in a second.
pub(super) const SHARDS: u8 = 4;

/// The name of a call: 128 random bits, and the minute of its end, which tells where it is registered.
///
/// It is not OpenAI's name for the call. Only the caller who made the call can end it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(String);

impl Handle {
    /// A new name for a call that ends at that time, in Unix seconds. `None`: the system has no random numbers.
    pub(super) fn new(ends: u64) -> Option<Self> {
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).ok()?;
        let mut text = URL_SAFE_NO_PAD.encode(random);
        let mut minute = ends / 60;
        let mut digits = [b'0'; MINUTE];
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789abcdefghijklmnopqrstuvwxyz".get(usize::try_from(minute % 36).ok()?).copied()?;
            minute /= 36;
        }
        text.extend(digits.map(char::from));
        Some(Self(text))
    }

    /// A name that a caller sent. `None` if no call can have it.
    pub fn parse(text: &str) -> Option<Self> {
        let known = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let handle = (known && text.len() == RANDOM.saturating_add(MINUTE)).then(|| Self(text.to_owned()))?;
        handle.minute().map(|_| handle)
    }

    /// The minute of the call's end, since the Unix epoch.
    pub(super) fn minute(&self) -> Option<u64> {
        u64::from_str_radix(self.0.get(RANDOM..)?, 36).ok()
    }

    /// The key of the item that registers the call.
    pub(super) fn item(&self) -> String {
        let shard = self.0.bytes().next().unwrap_or_default() % SHARDS;
        item_of(self.minute().unwrap_or_default(), shard)
    }
}

/// The key of one of the items that register the calls that end in a minute.
pub(super) fn item_of(minute: u64, shard: u8) -> String {
    format!("ending/{minute}/{shard}")
}

impl fmt::Display for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_tells_where_its_call_is_registered() {
        for ends in [1_795_651_260, 1_795_651_319] {
            let handle = Handle::new(ends).unwrap();
            assert_eq!(Handle::parse(&handle.to_string()), Some(handle.clone()));
            assert!(handle.item().starts_with("ending/29927521/"), "{}", handle.item());
        }
        assert_ne!(Handle::new(0), Handle::new(0));
    }

    #[test]
    fn other_texts_are_not_the_name_of_a_call() {
        let handle = Handle::new(1_795_651_260).unwrap().to_string();
        let longer = format!("{handle}0");
        for text in ["", "rtc_abc", &handle[1..], &longer, &handle.replace(&handle[22..], "0-000"), &"é".repeat(13)] {
            assert_eq!(Handle::parse(text), None, "{text}");
        }
    }

    #[test]
    fn calls_of_one_minute_are_spread_over_all_items() {
        let mut items: Vec<_> = (0..200).map(|_| Handle::new(60).unwrap().item()).collect();
        items.sort();
        items.dedup();
        assert_eq!(items.len(), usize::from(SHARDS));
    }
}
