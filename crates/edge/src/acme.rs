//! Certificates from an authority that speaks ACME (RFC 8555), such as Let's Encrypt: ordered once,
//! kept on disk, ordered anew when two thirds of their time are over.
//!
//! The authority sees that a name is ours by a request for a file under it (HTTP-01), which the edge
//! answers by itself at port 80, before anything else; or in a handshake at port 443 (TLS-ALPN-01).

use std::{
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use throng_core::{Clock, Shutdown};

use crate::{Certificates, Edge, PemFiles, tls};

/// What is ordered, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The names that visitors ask for. One certificate is for all of them.
    pub names: Vec<String>,
    /// Whom the authority may write to, such as `mailto:ops@example.org`. Defaults to nobody.
    pub contact: Option<String>,
    /// Where the account, the certificate and its key are kept.
    pub folder: PathBuf,
    /// Where the authority is asked. Defaults to Let's Encrypt.
    pub directory: String,
    /// A file with the certificate that the authority itself is believed by, when it is none that
    /// the system knows. Defaults to none.
    pub root: Option<PathBuf>,
    /// How the names are shown to be ours. Defaults to [`Proof::Http`].
    pub proof: Proof,
}

/// How an authority sees that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// By a request at port 80 (HTTP-01).
    #[default]
    Http,
    /// By a handshake at port 443 (TLS-ALPN-01, RFC 8737), where port 80 cannot be reached.
    TlsAlpn,
}

impl Proof {
    fn kind(self) -> ChallengeType {
        match self {
            Self::Http => ChallengeType::Http01,
            Self::TlsAlpn => ChallengeType::TlsAlpn01,
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::TlsAlpn => 443,
        }
    }
}

impl Acme {
    /// A certificate of Let's Encrypt for `names`, kept in `folder`.
    #[must_use]
    pub fn new(names: Vec<String>, folder: PathBuf) -> Self {
        let directory = instant_acme::LetsEncrypt::Production.url().to_owned();
        Self { names, contact: None, folder, directory, root: None, proof: Proof::default() }
    }

    /// Where the certificate and its key are once there are any.
    #[must_use]
    pub fn files(&self) -> PemFiles {
        PemFiles { chain: self.folder.join(CHAIN), key: self.folder.join(KEY) }
    }

    /// Puts the certificate on disk into `certificates`, if there is one.
    ///
    /// # Errors
    /// As [`Certificates::add`].
    pub fn bring(&self, certificates: &Certificates) -> crate::Result<()> {
        let files = self.files();
        if files.chain.exists() {
            certificates.add(files)?;
        }
        Ok(())
    }

    /// When the certificate on disk has to be ordered anew, in seconds since 1970; zero when there
    /// is none for all the names.
    fn due_s(&self) -> i64 {
        let Ok(status) = tls::look(&self.files()) else { return 0 };
        let is_for = |name: &String| status.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        match self.names.iter().all(is_for) {
            true => status.begins_s + (status.ends_s - status.begins_s) / 3 * 2,
            false => 0,
        }
    }

    async fn account(&self) -> Result<Account, Trouble> {
        let builder = || match &self.root {
            Some(root) => Account::builder_with_root(root),
            None => Account::builder(),
        };
        let path = self.folder.join(ACCOUNT);
        if let Ok(text) = std::fs::read(&path) {
            let credentials: AccountCredentials = serde_json::from_slice(&text)
                .map_err(|error| Trouble::File { path, reason: io::Error::other(error) })?;
            return Ok(builder()?.from_credentials(credentials).await?);
        }
        let contact: Vec<&str> = self.contact.as_deref().into_iter().collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder()?.create(&new, self.directory.clone(), None).await?;
        let text = serde_json::to_vec(&credentials).map_err(|error| Trouble::File {
            path: path.clone(),
            reason: io::Error::other(error),
        })?;
        write(&path, &text)?;
        Ok(account)
    }
}

/// What went wrong with an order.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    #[error("cannot use `{}`: {reason}", .path.display())]
    File { path: PathBuf, reason: io::Error },
    #[error("the authority does not take a proof at port {port} for `{name}`")]
    NoChallenge { name: String, port: u16 },
    #[error("cannot make a proof for `{name}`: {reason}")]
    Proof { name: String, reason: String },
    #[error("the order is {0:?}: {1}")]
    Refused(OrderStatus, String),
    #[error(transparent)]
    Certificate(#[from] crate::Error),
}

impl Edge {
    /// Keeps `certificates` in possession of a certificate for the names of `acme`, until
    /// `shutdown`. What goes wrong is logged and tried again, a minute later at first and six hours
    /// later at last.
    pub async fn keep_certified(
        &self,
        acme: &Acme,
        certificates: &Certificates,
        shutdown: Shutdown,
    ) {
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.certify(acme, certificates) => {}
        }
    }

    async fn certify(&self, acme: &Acme, certificates: &Certificates) {
        let clock = self.clock().clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let due_s = acme.due_s();
            if clock.now_s() < due_s {
                pause = FIRST_PAUSE;
                until(&clock, due_s).await;
                continue;
            }
            let names = acme.names.join(" ");
            match self.order(acme, certificates).await {
                Ok(()) => {
                    tracing::info!("there is a new certificate for {names}");
                    // Whatever it says of its time: an authority is not asked over and over.
                    clock.sleep(LOOK_AGAIN).await;
                }
                Err(error) => {
                    tracing::error!("cannot get a certificate for {names}: {error}");
                    clock.sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    async fn order(&self, acme: &Acme, certificates: &Certificates) -> Result<(), Trouble> {
        let in_folder = |reason| Trouble::File { path: acme.folder.clone(), reason };
        std::fs::create_dir_all(&acme.folder).map_err(in_folder)?;
        let account = acme.account().await?;
        let names: Vec<Identifier> = acme.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut asked = Vec::new();
        let proved = self.prove(&mut order, (acme.proof, certificates), &mut asked).await;
        asked.iter().for_each(|asked| match acme.proof {
            Proof::Http => self.challenges().forget(asked),
            Proof::TlsAlpn => certificates.forget_proof(asked),
        });
        proved?;
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&RETRY).await?;
        let files = acme.files();
        // The chain comes last: a key without its certificate is not taken for one.
        write(&files.key, key.as_bytes())?;
        write(&files.chain, chain.as_bytes())?;
        certificates.add(files)?;
        Ok(())
    }

    /// Shows that the names of `order` are ours.
    async fn prove(
        &self,
        order: &mut Order,
        (proof, certificates): (Proof, &Certificates),
        asked: &mut Vec<String>,
    ) -> Result<(), Trouble> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let Some(mut challenge) = authorization.challenge(proof.kind()) else {
                return Err(Trouble::NoChallenge { name, port: proof.port() });
            };
            let answer = challenge.key_authorization();
            match proof {
                Proof::Http => {
                    self.challenges().set(&challenge.token, answer.as_str().to_owned());
                    asked.push(challenge.token.clone());
                }
                Proof::TlsAlpn => {
                    certificates
                        .prove(&name, answer.digest().as_ref())
                        .map_err(|reason| Trouble::Proof { name: name.clone(), reason })?;
                    asked.push(name);
                }
            }
            challenge.set_ready().await?;
        }
        match order.poll_ready(&RETRY).await? {
            OrderStatus::Ready | OrderStatus::Valid => Ok(()),
            status => Err(Trouble::Refused(status, reasons(order).await)),
        }
    }
}

/// What the authority says about names that it does not take for ours.
async fn reasons(order: &mut Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let problems = authorization.challenges.iter().filter_map(|one| one.error.as_ref());
        reasons.extend(problems.map(ToString::to_string));
    }
    reasons.join("; ")
}

/// Waits until the clock on the wall says so, which somebody may set.
async fn until(clock: &Clock, moment_s: i64) {
    let left = u64::try_from(moment_s - clock.now_s()).unwrap_or(0);
    clock.sleep(Duration::from_secs(left).min(LOOK_AGAIN)).await;
}

/// Writes a file that only its owner may read, whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<(), Trouble> {
    let new = path.with_extension("new");
    let written = (|| {
        let _ = std::fs::remove_file(&new); // one that was never finished
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    })();
    written.map_err(|reason| Trouble::File { path: path.to_owned(), reason })
}

const ACCOUNT: &str = "account.json";
const CHAIN: &str = "certificate.pem";
const KEY: &str = "key.pem";
const RETRY: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LAST_PAUSE: Duration = Duration::from_secs(6 * 3_600);
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
