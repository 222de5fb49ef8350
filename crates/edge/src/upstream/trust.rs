//! TLS to back ends: by whom they are believed, and for which name.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::tls::provider;

/// How a back end that speaks HTTPS is known to be the one that is meant. By default it shows a
/// certificate for the host of its URL, from an issuer that the system knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// A file with the certificates (PEM) of the issuers that are believed, in place of those that
    /// the system knows. Defaults to none.
    pub ca: Option<PathBuf>,
    /// The name that it is asked for (SNI) and has to show a certificate for. Defaults to the host of
    /// its URL.
    pub name: Option<String>,
    /// Takes whatever certificate is shown: nobody can listen, but anybody can be the back end.
    /// Defaults to false.
    pub is_blind: bool,
}

/// Speaks TLS with one back end.
pub(super) struct Secure {
    pub(super) trust: Trust,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Secure {
    /// For a back end at `host`. An error says what would be right.
    pub(super) fn new(host: &str, trust: &Trust) -> Result<Self, String> {
        let name = trust.name.as_deref().unwrap_or(host);
        let bare = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare)
            .map_err(|_| format!("`{name}` is no name that a certificate can be for"))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = match trust.is_blind {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Blind(provider())))
                .with_no_client_auth(),
            false => builder.with_root_certificates(roots(trust)?).with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { trust: trust.clone(), connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Agrees with the back end at the other end of `stream`.
    pub(super) async fn agree(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").field("name", &self.name).finish_non_exhaustive()
    }
}

fn roots(trust: &Trust) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &trust.ca else {
        let found = rustls_native_certs::load_native_certs();
        if roots.add_parsable_certificates(found.certs).0 == 0 {
            return Err(
                "the system knows no issuers of certificates; name a file of them (`ca`), or \
                 install ca-certificates"
                    .to_owned(),
            );
        }
        return Ok(roots);
    };
    for certificate in read(path)? {
        roots.add(certificate).map_err(|error| format!("`{}`: {error}", path.display()))?;
    }
    match roots.is_empty() {
        true => Err(format!("`{}` holds no `BEGIN CERTIFICATE`", path.display())),
        false => Ok(roots),
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn fmt::Display| format!("cannot read `{}`: {error}", path.display());
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    let certificates: Result<_, _> = CertificateDer::pem_slice_iter(&text).collect();
    certificates.map_err(|error| wrong(&error))
}

/// Believes any certificate, but not that somebody has the key of another one.
#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
