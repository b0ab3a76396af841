//! A certificate authority that is created at each start.

use std::{io, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// A TLS acceptor for `127.0.0.1` and `localhost`, and the certificate authority to trust, in PEM. Other servers of a
/// test can use it too.
///
/// # Errors
/// If a key or certificate cannot be generated.
pub fn acceptor() -> io::Result<(TlsAcceptor, String)> {
    let authority_key = KeyPair::generate().map_err(io::Error::other)?;
    let mut authority = CertificateParams::default();
    // OpenSSL identifies authorities by name: of two with the same name, it finds only one.
    let name = format!("openai-simulator {:016x}", fastrand::u64(..));
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = authority.self_signed(&authority_key).map_err(io::Error::other)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let server_key = KeyPair::generate().map_err(io::Error::other)?;
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .and_then(|server| server.signed_by(&server_key, &issuer))
        .map_err(io::Error::other)?;
    let private_key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private_key)
        })
        .map_err(io::Error::other)?;
    Ok((TlsAcceptor::from(Arc::new(config)), ca_pem))
}
