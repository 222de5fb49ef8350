//! Certificates that show an authority, in a handshake of its own, that a name is ours (RFC 8737).

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{pki_types::PrivateKeyDer, server::ClientHello, sign::CertifiedKey};

/// What is shown for which name.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    by_name: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

/// What the protocol is called in which nothing is said beyond the handshake.
pub(crate) const ALPN_ACME: &[u8] = b"acme-tls/1";

impl Proofs {
    /// Shows `digest`, 32 bytes, to whoever asks for `name` in that protocol.
    pub(super) fn set(&self, name: &str, digest: &[u8]) -> Result<(), String> {
        let key = certificate(name, digest)?;
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        by_name.insert(name.to_ascii_lowercase(), Arc::new(key));
        Ok(())
    }

    pub(super) fn forget(&self, name: &str) {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        by_name.remove(&name.to_ascii_lowercase());
    }

    /// What a visitor in that protocol is shown, which may be nothing; `None` for any other visitor.
    pub(super) fn shown(&self, hello: &ClientHello<'_>) -> Option<Option<Arc<CertifiedKey>>> {
        hello.alpn()?.find(|protocol| *protocol == ALPN_ACME)?;
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Some(name.and_then(|name| by_name.get(&name).cloned()))
    }
}

fn certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    if digest.len() != 32 {
        return Err(format!("a digest of {} bytes is none of SHA-256", digest.len()));
    }
    let made = || -> Result<(Vec<u8>, rcgen::Certificate), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        Ok((key.serialize_der(), certificate))
    };
    let (key, certificate) = made().map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::try_from(key).map_err(str::to_owned)?;
    let key = super::provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| error.to_string())?;
    // It is not looked at here: what makes it a proof is an extension that others must refuse.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}
