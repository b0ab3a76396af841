//! Identifiers as OpenAI forms them: a prefix that names the kind, and random letters and digits.

/// A new identifier, such as `item_` and 21 random characters for the prefix `item`.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", random(21))
}

/// That many random letters and digits.
pub(crate) fn random(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).collect()
}
