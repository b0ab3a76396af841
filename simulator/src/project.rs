//! The project that a key belongs to. OpenAI shows the calls of one project only to its own keys.

/// The project of keys that name none.
const DEFAULT: &str = "default";

/// The project of a key. `sk-proj-NAME` and `sk-proj-NAME-…` are keys of the project NAME; all other keys share one
/// project. OpenAI's own keys do not show theirs.
pub(crate) fn project_of(key: &str) -> &str {
    let named = key.strip_prefix("sk-proj-").and_then(|rest| rest.split('-').next());
    named.filter(|name| !name.is_empty()).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_project_or_belongs_to_the_default_one() {
        for (key, project) in [
            ("sk-proj-alpha", "alpha"),
            ("sk-proj-alpha-1", "alpha"),
            ("sk-proj-alpha-2-x", "alpha"),
            ("sk-proj-beta-1", "beta"),
            ("sk-anything", DEFAULT),
            ("sk-proj-", DEFAULT),
            ("sk-proj--1", DEFAULT),
        ] {
            assert_eq!(project_of(key), project, "{key}");
        }
    }
}
