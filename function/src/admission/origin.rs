//! Which pages may ask.

/// The origins of the pages that may ask for a token.
#[derive(Debug, PartialEq)]
pub enum Origins {
    /// `ALLOWED_ORIGINS` is empty or `*`: not checked.
    Any,
    /// These, as browsers write them, and callers that send no `Origin`, since those are not browsers.
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
