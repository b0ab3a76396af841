//! The caller as the gateway identified it, and its safety identifier for OpenAI.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ring::hmac;

/// The party that a token counts against, and that OpenAI's enforcement may hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The subject of the sign-in that the gateway has verified: the claim `sub` of a JWT, or an authorizer's or IAM's
    /// principal.
    Subject(String),
    /// The value of another claim, which the operator chose.
    Claim { name: String, value: String },
    /// The address that the gateway or the load balancer saw, or that a proxy which has proved itself states: one IPv4
    /// address, or one IPv6 network of 64 bits, the size of a household's.
    Address(IpAddr),
    /// The event has no source address, such as a console test.
    Direct,
}

impl Caller {
    /// Identifies the caller by the address that the gateway saw.
    pub fn from_source(source: Option<&str>) -> Self {
        source.map(str::trim).and_then(address).map_or(Self::Direct, Self::from_address)
    }

    /// Identifies the caller by an address.
    pub fn from_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << 64);
                Self::Address(IpAddr::V6(network.into()))
            }
            ipv4 => Self::Address(ipv4),
        }
    }

    /// How the caller was identified, for the log: never the subject or the address itself.
    pub fn known_by(&self) -> &'static str {
        match self {
            Self::Subject(_) => "subject",
            Self::Claim { .. } => "claim",
            Self::Address(_) => "address",
            Self::Direct => "direct",
        }
    }

    /// Hex HMAC-SHA256 of the caller, 64 characters, which is the limit of `OpenAI-Safety-Identifier`. The same caller
    /// under the same key has the same identifier, and without the key an identifier cannot be traced back to an
    /// address.
    pub fn safety_identifier(&self, key: &[u8]) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), self.to_string().as_bytes());
        hex::encode(tag)
    }
}

/// Parses an address, with or without a port. API Gateway adds a port if it checks client certificates.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip())).ok()
}

/// The text that is hashed into the identifier. It begins with the kind, so that two kinds cannot collide, and the name of a
/// claim contains no space. `operate/callers.py` builds the same text.
impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => write!(formatter, "subject:{subject}"),
            Self::Claim { name, value } => write!(formatter, "claim:{name} {value}"),
            Self::Address(address) => write!(formatter, "address:{address}"),
            Self::Direct => formatter.write_str("direct"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(source: &str) -> String {
        Caller::from_source(Some(source)).safety_identifier(b"key")
    }

    #[test]
    fn an_identifier_is_the_hex_hmac_of_the_caller() {
        // printf address:203.0.113.7 | openssl dgst -sha256 -hmac key
        assert_eq!(identifier("203.0.113.7"), "8cf8a94b397b200ab1f2a4c2d47607dcc59bcc33ed2eecc9ebea411597fde69c");
        assert_ne!(identifier("203.0.113.7"), identifier("203.0.113.8"));
        let caller = Caller::from_source(Some("203.0.113.7"));
        assert_ne!(caller.safety_identifier(b"key"), caller.safety_identifier(b"another key"));
    }

    #[test]
    fn a_subject_never_equals_an_address_or_another_claim() {
        let of = |subject: &str| Caller::Subject(subject.to_owned()).safety_identifier(b"key");
        // printf 'subject:auth0|1' | openssl dgst -sha256 -hmac key
        assert_eq!(of("auth0|1"), "7f863bbd502ff942ec02f6a587f3ee40726a73f5604fe32f7c8899145f264b1d");
        assert_ne!(of("203.0.113.7"), identifier("203.0.113.7"));
        let email = Caller::Claim { name: "email".to_owned(), value: "auth0|1".to_owned() };
        // printf 'claim:email auth0|1' | openssl dgst -sha256 -hmac key
        assert_eq!(email.safety_identifier(b"key"), "9861775d7d189eef025f179ba217a890af333f3affa70e8504c5487c7d776215");
    }

    #[test]
    fn an_ipv6_caller_is_its_64_bit_network() {
        assert_eq!(identifier("2001:db8:1:2::1"), identifier("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(identifier("2001:db8:1:2::1"), identifier("2001:db8:1:3::1"));
    }

    #[test]
    fn an_ipv4_caller_is_the_same_in_either_notation() {
        assert_eq!(identifier("203.0.113.7"), identifier("::ffff:203.0.113.7"));
    }

    #[test]
    fn a_port_does_not_change_the_caller() {
        assert_eq!(identifier("203.0.113.7"), identifier("203.0.113.7:32554"));
        assert_eq!(identifier("2001:db8:1:2::1"), identifier("[2001:db8:1:2::9]:443"));
    }

    #[test]
    fn sources_without_an_address_are_all_one_caller() {
        for source in [None, Some(""), Some("test-invoke-source-ip"), Some("203.0.113.7, 10.0.0.1")] {
            assert_eq!(Caller::from_source(source), Caller::Direct);
        }
    }
}
