//! The error codes of AWS's services.

use std::fmt;

/// AWS's error code, reduced to at most 64 letters and digits, so that it can be logged.
#[derive(Debug, PartialEq)]
pub struct Code(pub(super) String);

impl Code {
    /// The code in a type such as `com.amazonaws.dynamodb.v20120810#AccessDeniedException`.
    pub fn of(kind: &str) -> Self {
        let code = kind.rsplit('#').next().unwrap_or_default();
        Self(code.chars().filter(char::is_ascii_alphanumeric).take(64).collect())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
