//! A proxy of the operator's in front of the gateway, such as CloudFront: it proves itself with a secret, and states the
//! caller's address.

use std::{fmt, net::IpAddr};

use secrecy::SecretString;

use super::caller;
use crate::secret::Secret;

/// The header with the proof.
const SECRET_HEADER: &str = "X-Proxy-Secret";

/// The header in which CloudFront states the address of its viewer, always with a port (its developer guide, "Add CloudFront
/// request headers").
const CLOUDFRONT: &str = "CloudFront-Viewer-Address";

/// The proxy that every request must come through.
#[derive(Debug)]
pub struct Proxy {
    /// The name of the header in which it states the caller's address.
    pub address_header: String,
}

/// The headers of a request.
pub trait HeaderValues: fmt::Debug + Sync {
    /// The values of all headers with this name, in any case.
    fn values(&self, name: &str) -> Vec<String>;
}

/// Why a request did not come through the proxy, or why its caller is not known.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the secret contains no PROXY_SECRET: run make proxy-secret")]
    NoSecret,
    #[error("X-Proxy-Secret is missing or wrong")]
    NotProved,
    #[error("the header of PROXY_ADDRESS_HEADER does not contain exactly one address")]
    NoAddress,
}

/// Checks the proof. It has to be there once.
///
/// # Errors
/// If the secret names no proxy, or the proof is not its own.
pub(super) fn prove(headers: &dyn HeaderValues, secret: &Secret) -> Result<(), ProxyError> {
    if !secret.has_proxy() {
        return Err(ProxyError::NoSecret);
    }
    let proofs: Vec<_> = headers.values(SECRET_HEADER).into_iter().map(SecretString::from).collect();
    match proofs.as_slice() {
        [proof] if secret.is_of_proxy(proof) => Ok(()),
        _ => Err(ProxyError::NotProved),
    }
}

impl Proxy {
    /// The address of the caller, as a proxy that has proved itself states it.
    ///
    /// # Errors
    /// If it does not state exactly one address.
    pub(super) fn address(&self, headers: &dyn HeaderValues) -> Result<IpAddr, ProxyError> {
        let stated = headers.values(&self.address_header);
        let [stated] = stated.as_slice() else { return Err(ProxyError::NoAddress) };
        let stated = stated.trim();
        let address = if self.address_header.eq_ignore_ascii_case(CLOUDFRONT) {
            without_port(stated).and_then(|address| address.parse().ok())
        } else {
            caller::address(stated)
        };
        address.ok_or(ProxyError::NoAddress)
    }
}

/// The address in `address:port`. CloudFront writes IPv6 without brackets, such as `2001:db8::1:443`, so only the last colon
/// tells the port from the address.
fn without_port(stated: &str) -> Option<&str> {
    let (address, port) = stated.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    Some(address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Sent(&'static [&'static str]);

    impl HeaderValues for Sent {
        fn values(&self, _: &str) -> Vec<String> {
            self.0.iter().map(|&value| value.to_owned()).collect()
        }
    }

    fn address(header: &str, sent: &'static [&'static str]) -> Option<String> {
        let proxy = Proxy { address_header: header.to_owned() };
        proxy.address(&Sent(sent)).ok().map(|address| address.to_string())
    }

    #[test]
    fn cloudfront_states_the_address_with_a_port() {
        for (sent, expected) in [
            (&["198.51.100.10:46532"][..], "198.51.100.10"),
            (&["2001:db8::1:443"], "2001:db8::1"),
            (&["2001:db8:1:2:3:4:5:6:443"], "2001:db8:1:2:3:4:5:6"),
            (&["2001:db8:1:2:::443"], "2001:db8:1:2::"),
            (&["[::1]:443"], "::1"),
            (&[" [2001:db8::1]:46532 "], "2001:db8::1"),
        ] {
            assert_eq!(address("cloudfront-viewer-address", sent).as_deref(), Some(expected), "{sent:?}");
        }
        for sent in [
            &[][..],
            &["198.51.100.10"],
            &["198.51.100.10:"],
            &["198.51.100.10:65536"],
            &["198.51.100.10:443, 203.0.113.7:443"],
            &["198.51.100.10:443", "203.0.113.7:443"],
            &["198.51.100.10:443", "198.51.100.10:443"],
            &["[::1:443"],
            &[":443"],
            &[""],
        ] {
            assert_eq!(address("CloudFront-Viewer-Address", sent), None, "{sent:?}");
        }
    }

    #[test]
    fn another_proxy_states_an_address_with_or_without_a_port() {
        for (sent, expected) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["203.0.113.7:443"], "203.0.113.7"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
        ] {
            assert_eq!(address("X-Real-IP", sent).as_deref(), Some(expected), "{sent:?}");
        }
        for sent in [&[][..], &["203.0.113.7, 10.0.0.1"], &["unknown"], &[""], &["203.0.113.7", "203.0.113.8"]] {
            assert_eq!(address("X-Real-IP", sent), None, "{sent:?}");
        }
    }
}
