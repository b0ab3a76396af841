//! The kinds of tokens, and the path of each.

use url::Url;

use crate::profile::Kind;

/// A kind of token. Each is minted at a path of its own below the base URL. The predecessor of both,
/// `/realtime/sessions`, was removed in May 2026.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A token for a conversation or a transcription.
    ClientSecrets,
    /// A token for a translation.
    TranslationClientSecrets,
}

impl From<Kind> for Endpoint {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Realtime | Kind::Transcription => Self::ClientSecrets,
            Kind::Translation => Self::TranslationClientSecrets,
        }
    }
}

impl Endpoint {
    /// The path below the base URL at which a token of this kind is minted.
    fn path(self) -> &'static str {
        match self {
            Self::ClientSecrets => "realtime/client_secrets",
            Self::TranslationClientSecrets => "realtime/translations/client_secrets",
        }
    }

    /// The path to which a browser posts its SDP with the token (OpenAI's guides to WebRTC and to translation, 2026-11).
    fn calls_path(self) -> &'static str {
        match self {
            Self::ClientSecrets => "realtime/calls",
            Self::TranslationClientSecrets => "realtime/translations/calls",
        }
    }

    /// The path of the WebSocket that the token opens.
    fn socket_path(self) -> &'static str {
        match self {
            Self::ClientSecrets => "realtime",
            Self::TranslationClientSecrets => "realtime/translations",
        }
    }
}

/// The URLs of one endpoint, built once.
#[derive(Debug)]
pub(super) struct Urls {
    pub(super) mint: Url,
    pub(super) calls: String,
    /// Without its query, which depends on the session.
    pub(super) socket: String,
}

impl Urls {
    pub(super) fn new(base_url: &Url, endpoint: Endpoint) -> Self {
        let socket = String::from(below(base_url, endpoint.socket_path()));
        Self {
            mint: below(base_url, endpoint.path()),
            calls: below(base_url, endpoint.calls_path()).into(),
            // https: becomes wss:, and http: becomes ws:.
            socket: socket.replacen("http", "ws", 1),
        }
    }
}

/// The URL of the WebSocket for one session. A transcription names its intent, any other session its model.
pub(super) fn socket_url(socket: &str, kind: Kind, model: Option<&str>) -> String {
    match (kind, model) {
        (Kind::Transcription, _) => format!("{socket}?intent=transcription"),
        (_, Some(model)) => {
            let model: String = url::form_urlencoded::byte_serialize(model.as_bytes()).collect();
            format!("{socket}?model={model}")
        }
        (_, None) => socket.to_owned(),
    }
}

fn below(base_url: &Url, path: &str) -> Url {
    let mut url = base_url.clone();
    url.set_path(&format!("{}/{path}", base_url.path().trim_end_matches('/')));
    url
}
