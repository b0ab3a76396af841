//! The pages that may request tokens, by their origins.

/// The origins of the pages that may request tokens.
#[derive(Debug, PartialEq)]
pub enum Origins {
    /// Origins are not checked: `ALLOWED_ORIGINS` is empty or `*`.
    Any,
    /// These origins, as browsers write them, and callers that send no `Origin`, since those are not browsers.
    Only(Vec<String>),
}

impl Origins {
    /// Whether a request with these `Origin` headers may be answered. Browsers send one with every cross-origin POST. A
    /// client that sends none is not a browser, and could have sent any.
    pub(super) fn allow(&self, sent: &[String]) -> bool {
        match self {
            Self::Any => true,
            Self::Only(allowed) => sent.iter().all(|origin| allowed.contains(origin)),
        }
    }
}
