//! Certificates for the names that the edge answers to, which may be others from one moment to the
//! next.

#[cfg(feature = "acme")]
mod prove;
mod resolve;
mod validity;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use webpki::EndEntityCert;

#[cfg(feature = "acme")]
pub(crate) use self::prove::ALPN_ACME;
use self::resolve::Table;
use crate::{Error, Result};

/// Certificates and their keys, found by the name that a visitor asks for. Clones are the same.
///
/// A visitor that names nothing, or a name that no certificate is for, gets the first one.
#[derive(Clone, Debug)]
pub struct Certificates {
    table: Arc<Table>,
    files: Arc<Mutex<Files>>,
    config: Arc<ServerConfig>,
}

#[derive(Debug, Default)]
struct Files {
    given: Vec<PemFiles>,
    /// Those that came by themselves; see [`Certificates::add`].
    added: Vec<PemFiles>,
    /// What was in all of them last.
    read: Vec<[Vec<u8>; 2]>,
}

/// Where a certificate is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PemFiles {
    /// The certificate, and after it those that its issuer is known by: what certbot calls
    /// `fullchain.pem`.
    pub chain: PathBuf,
    /// Its private key, in PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// How one certificate is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// The names that it is for; empty when it is for addresses alone.
    pub names: Vec<String>,
    /// When it begins, in seconds since 1970.
    pub begins_s: i64,
    /// When it ends, in seconds since 1970.
    pub ends_s: i64,
}

/// A certificate that can be shown.
#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    status: CertificateStatus,
}

impl Certificates {
    /// Reads certificates from files. The first one is for whoever names none of their names.
    ///
    /// # Errors
    /// [`Error::Certificate`] when a file cannot be read, holds nothing of the kind, or the key is
    /// not the certificate's; [`Error::NoCertificate`] when there are no files.
    pub fn from_files(files: impl IntoIterator<Item = PemFiles>) -> Result<Self> {
        let certificates = Self::to_come()?;
        match certificates.set_files(files)? {
            true => Ok(certificates),
            false => Err(Error::NoCertificate),
        }
    }

    /// None yet. Until there is one nobody can agree on TLS.
    pub fn to_come() -> Result<Self> {
        let table = Arc::new(Table::default());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(wrong_tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&table) as _);
        config.alpn_protocols = [ALPN_H2, b"http/1.1".as_slice()].map(<[u8]>::to_vec).to_vec();
        #[cfg(feature = "acme")]
        config.alpn_protocols.push(ALPN_ACME.to_vec());
        config.ticketer = ring::Ticketer::new().map_err(wrong_tls)?;
        Ok(Self { table, files: Arc::default(), config: Arc::new(config) })
    }

    /// Reads the files again, for connections from now on. Whether there was anything new in them.
    /// It reads the disk.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files); the old certificates stay in force.
    pub fn reload(&self) -> Result<bool> {
        let (given, added) = {
            let files = self.lock();
            (files.given.clone(), files.added.clone())
        };
        self.set(given, added)
    }

    /// Takes other files from now on. Whether that changed anything. It reads the disk.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files); the old certificates stay in force.
    pub fn set_files(&self, files: impl IntoIterator<Item = PemFiles>) -> Result<bool> {
        let added = self.lock().added.clone();
        self.set(files.into_iter().collect(), added)
    }

    /// Adds a certificate that stays when other files are set. Whether that changed anything. It
    /// reads the disk.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files); the old certificates stay in force.
    pub fn add(&self, files: PemFiles) -> Result<bool> {
        let (given, mut added) = {
            let files = self.lock();
            (files.given.clone(), files.added.clone())
        };
        if !added.contains(&files) {
            added.push(files);
        }
        self.set(given, added)
    }

    fn set(&self, given: Vec<PemFiles>, added: Vec<PemFiles>) -> Result<bool> {
        let all = || given.iter().chain(&added);
        let read = all().map(load).collect::<Result<Vec<_>>>()?;
        let is_new = self.lock().read != read;
        if is_new {
            let certificates = all().zip(&read).map(|(files, text)| parse(files, text));
            self.table.set(certificates.collect::<Result<_>>()?);
        }
        *self.lock() = Files { given, added, read };
        Ok(is_new)
    }

    /// Each certificate, in the order of its files.
    #[must_use]
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.table.status()
    }

    /// Shows an authority that asks at the TLS port that `name` is ours, until it is forgotten.
    #[cfg(feature = "acme")]
    pub(crate) fn prove(&self, name: &str, digest: &[u8]) -> std::result::Result<(), String> {
        self.table.proofs.set(name, digest)
    }

    #[cfg(feature = "acme")]
    pub(crate) fn forget_proof(&self, name: &str) {
        self.table.proofs.forget(name);
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the certificate in `files` says.
#[cfg(feature = "acme")]
pub(crate) fn look(files: &PemFiles) -> Result<CertificateStatus> {
    Ok(parse(files, &load(files)?)?.status)
}

/// What HTTP/2 is called while a visitor and the edge agree on a protocol.
pub(crate) const ALPN_H2: &[u8] = b"h2";

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn load(files: &PemFiles) -> Result<[Vec<u8>; 2]> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| wrong(path, error.to_string()));
    Ok([read(&files.chain)?, read(&files.key)?])
}

fn parse(files: &PemFiles, [chain, key]: &[Vec<u8>; 2]) -> Result<Certificate> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&files.chain, error.to_string()))?;
    let Some(first) = chain.first() else {
        return Err(wrong(&files.chain, "it holds no `BEGIN CERTIFICATE`".into()));
    };
    let unreadable = || wrong(&files.chain, "its first certificate cannot be understood".into());
    let names = EndEntityCert::try_from(first)
        .map_err(|_| unreadable())?
        .valid_dns_names()
        .map(str::to_ascii_lowercase)
        .collect();
    let [begins_s, ends_s] = validity::validity_s(first).ok_or_else(unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| wrong(&files.key, format!("no private key: {error}")))?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong(&files.key, format!("it is not the key of `{}`", files.chain.display()))
        }
        error => wrong(&files.key, error.to_string()),
    })?;
    let status = CertificateStatus { names, begins_s, ends_s };
    Ok(Certificate { key: Arc::new(key), status })
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::Certificate { path: path.to_owned(), reason }
}

fn wrong_tls(error: rustls::Error) -> Error {
    Error::Accept(io::Error::other(error))
}
