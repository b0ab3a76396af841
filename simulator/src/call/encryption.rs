//! The encryption of a call: DTLS by `dimpl`, certificates by `rcgen`, hashes by `ring`.
//!
//! str0m has providers of its own, but every release of them depends on aws-lc-rs.

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Instant,
};

use dimpl::{Config, Dtls};
use rcgen::{CertificateParams, KeyPair};
use ring::{digest, hmac};
use str0m::crypto::{
    CryptoError, CryptoProvider, Sha1HmacProvider, Sha256Provider,
    dtls::{DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion},
};

use super::srtp::Srtp;

/// The providers of this file, in the form that str0m takes.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            srtp_provider: &Srtp,
            sha1_hmac_provider: &Hashes,
            sha256_provider: &Hashes,
            dtls_provider: &Handshakes,
        })
    });
    Arc::clone(&PROVIDER)
}

#[derive(Debug)]
struct Hashes;

impl Sha1HmacProvider for Hashes {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let mut context = hmac::Context::with_key(&key);
        for payload in payloads {
            context.update(payload);
        }
        let mut tag = [0; 20];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

impl Sha256Provider for Hashes {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
        hash
    }
}

#[derive(Debug)]
struct Handshakes;

impl DtlsProvider for Handshakes {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        let key = KeyPair::generate().ok()?;
        let certificate = CertificateParams::default().self_signed(&key).ok()?;
        Some(DtlsCert { certificate: certificate.der().to_vec(), private_key: key.serialize_der() })
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        _: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        // Shared, because a new configuration tests all its ciphers, which takes 70 ms in an unoptimised build.
        static CONFIG: LazyLock<Result<Arc<Config>, String>> = LazyLock::new(|| {
            // No cookie exchange: ICE has already verified the peer's address.
            let config = Config::builder().use_server_cookie(false).build();
            config.map(Arc::new).map_err(|fault| fault.to_string())
        });
        let config = CONFIG.as_ref().map_err(|fault| CryptoError::Other(fault.clone()))?;
        Ok(Box::new(Handshake(Dtls::new_12(Arc::clone(config), certificate.clone(), now))))
    }
}

struct Handshake(Dtls);

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

impl DtlsInstance for Handshake {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buffer)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<(), DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}
