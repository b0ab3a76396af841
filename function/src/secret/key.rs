//! The API key as people store it: the texts that are accepted as a key, and advice for all others.
//!
//! operate/contents.py has the same rules and sentences, and function/tests/secrets.json the samples for both.

/// Why a secret cannot be used, as a clause that never quotes it, and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub &'static str);

/// The field with the key.
pub const NAME: &str = "OPENAI_API_KEY";

const EMPTY: Unusable = Unusable("the key is empty: run make key");
const LINE: Unusable = Unusable("the key is a line such as NAME=value: store the value alone, with make key");
const BEARER: Unusable = Unusable("the key begins with Bearer: store only the part after it, with make key");
const CHARACTERS: Unusable =
    Unusable("the value of the key has spaces or characters that are not allowed in a key: run make key");
const QUOTES: Unusable = Unusable("the key begins or ends with a quotation mark: store it without, with make key");
const MARKUP: Unusable = Unusable("the value of the key begins with <, as HTML does, so it is not a key: run make key");
const JSON: Unusable = Unusable("the value of the key is JSON, not a key: store the key alone, with make key");
const WORD: Unusable =
    Unusable("the value of the key is a number or a word such as null, so it is not a key: run make key");

const PLACEHOLDER: Unusable = Unusable("the value of the key is a placeholder: run make key");
const ADDRESS: Unusable = Unusable("the value of the key is a URL or an ARN, not a key: run make key");

const QUOTATION_MARKS: [char; 3] = ['"', '\'', '`'];

/// The words that programs write in place of a missing value.
const WORDS: [&str; 6] = ["null", "none", "nil", "undefined", "true", "false"];

/// The words that people write in place of a key, without capitals, `-`, `_`, `/` and `.`.
const PLACEHOLDERS: [&str; 9] = ["", "sk", "todo", "tbd", "na", "changeme", "replaceme", "placeholder", "example"];

/// A number with as many digits could be a key: Azure's have 32 hexadecimal digits.
const DIGITS_OF_A_KEY: usize = 32;

/// The key in this text, without the white space and the one pair of quotation marks around it.
///
/// Any other text of visible ASCII is accepted: OpenAI's keys begin with `sk-`, those of other servers do not.
///
/// # Errors
/// If the text is not a key.
pub fn parse(text: &str) -> Result<&str, Unusable> {
    let key = unquoted(text.trim()).trim();
    if key.is_empty() {
        return Err(EMPTY);
    }
    if key.starts_with(['{', '[']) {
        return Err(JSON);
    }
    if key.starts_with('<') {
        return Err(MARKUP);
    }
    if is_line(key) {
        return Err(LINE);
    }
    if is_bearer(key) {
        return Err(BEARER);
    }
    // A placeholder that is a sentence has spaces.
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) || key.ends_with([',', ';']) {
        return Err(CHARACTERS);
    }
    if key.starts_with(QUOTATION_MARKS) || key.ends_with(QUOTATION_MARKS) {
        return Err(QUOTES);
    }
    let is_number = key.len() < DIGITS_OF_A_KEY && key.parse::<f64>().is_ok();
    if is_number || WORDS.iter().any(|word| key.eq_ignore_ascii_case(word)) {
        return Err(WORD);
    }
    if key.contains("://") || key.starts_with("arn:") {
        return Err(ADDRESS);
    }
    if is_placeholder(key) {
        return Err(PLACEHOLDER);
    }
    Ok(key)
}

/// Whether a text is a placeholder, as in documentation: `sk-…`, `<key>`, `your-api-key`, `sk-xxxx` or `changeme`.
pub fn is_placeholder(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let word: String = text.chars().filter(|letter| !"-_/.".contains(*letter)).collect();
    let rest = word.strip_prefix("sk").unwrap_or(&word);
    let in_brackets = text.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_".contains(&byte));
    ["…", "..."].iter().any(|mark| text.contains(mark))
        || in_brackets.is_some_and(|(name, _)| !name.is_empty() && is_name(name))
        || (text.contains("your") && text.contains("key"))
        || (rest.len() >= 3 && rest.bytes().all(|byte| byte == b'x' || byte == b'*'))
        || PLACEHOLDERS.contains(&word.as_str())
}

fn unquoted(text: &str) -> &str {
    let inside = QUOTATION_MARKS.iter().find_map(|&mark| text.strip_prefix(mark)?.strip_suffix(mark));
    inside.unwrap_or(text)
}

fn is_bearer(text: &str) -> bool {
    let (scheme, rest) = text.split_at_checked("Bearer".len()).unwrap_or_default();
    scheme.eq_ignore_ascii_case("Bearer") && rest.starts_with(char::is_whitespace)
}

/// Whether the text is a line of a settings file or a shell, such as `export NAME=value`. The first equals sign of a
/// key in base64 is its last character, or is followed by one more.
fn is_line(text: &str) -> bool {
    let command = ["export", "set", "setx", "env"].iter().find_map(|command| {
        let rest = text.strip_prefix(command)?;
        rest.starts_with(char::is_whitespace).then(|| rest.trim_start())
    });
    let assignment = command.unwrap_or(text).trim_start_matches('-');
    let assignment = assignment.strip_prefix("$env:").unwrap_or(assignment);
    let is_name = |name: &str| {
        let mut name = name.trim_end().bytes();
        name.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && name.all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    let is_assignment =
        assignment.split_once('=').is_some_and(|(name, value)| is_name(name) && value.bytes().any(|byte| byte != b'='));
    // A line of YAML or of an HTTP request.
    let is_entry =
        assignment.split_once(':').is_some_and(|(name, value)| is_name(name) && value.trim_start().starts_with("sk-"));
    is_assignment || is_entry || text.contains(NAME)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_every_server_are_accepted() {
        for key in [
            "sk-proj-AbC_123-xyz",
            "sk-1",
            "sk-1234",
            "0123456789abcdef0123456789abcdef",
            "01234567890123456789012345678901",
            "c2stMTIzNA==",
            "c2stMTIzND0=",
            "vck_1/+.~!@#$%^&*()[]{}<>",
            "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
            "Bearersk-1",
            "nullable-key",
        ] {
            assert_eq!(parse(key), Ok(key));
            assert_eq!(parse(&format!("\u{a0}\t{key}\r\n")), Ok(key), "white space around it");
        }
    }

    proptest! {
        #[test]
        fn a_key_of_openai_is_accepted_as_it_is(key in "sk-[A-Za-z0-9_-]{20,160}") {
            prop_assume!(!is_placeholder(&key));
            prop_assert_eq!(parse(&key), Ok(key.as_str()));
            for quoted in [format!("\"{key}\""), format!("'{key}'"), format!(" \"{key}\"\n"), format!("\"{key} \"")] {
                prop_assert_eq!(parse(&quoted), Ok(key.as_str()));
            }
        }

        #[test]
        fn an_accepted_key_is_part_of_the_text_and_fits_into_a_header(text in any::<String>()) {
            if let Ok(key) = parse(&text) {
                prop_assert!(text.contains(key) && !key.is_empty());
                prop_assert!(key.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
