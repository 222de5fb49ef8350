//! Where letters go.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::Mailbox,
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};
use throng::{
    Ctx,
    url::{EngineUrl, UrlError},
};

use super::Letter;

/// Sends letters. Cheap to clone; SMTP connections are kept and shared.
#[derive(Clone, Debug)]
pub struct Post {
    from: Mailbox,
    way: Way,
}

/// Keeps the way that is open, for `App::provide`.
#[derive(Debug, Default)]
pub struct PostBox(OnceLock<Post>);

/// Why a letter was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `mail.url` cannot be used.
    #[error("cannot use `mail.url`")]
    Url(#[from] UrlError),
    /// `mail.from` is not an address.
    #[error(
        "`mail.from` is `{0}`, which is not an address such as `Boxoffice <tickets@example.com>`"
    )]
    From(String),
    /// The letter cannot be written: it will not go through on another try either.
    #[error("cannot write letter {id}: {what}")]
    Letter {
        /// The letter.
        id: String,
        /// What is wrong with it.
        what: String,
    },
    /// The folder cannot be written.
    #[error("cannot write `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server did not take the letter.
    #[error("cannot send mail")]
    Smtp(#[from] lettre::transport::smtp::Error),
}

#[derive(Clone, Debug)]
enum Way {
    Folder(PathBuf),
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
}

impl Post {
    /// The way that the site's config names, opened once for each process.
    ///
    /// # Errors
    /// [`Error::Url`] or [`Error::From`], as an internal error of the site.
    pub fn of(cx: &Ctx) -> throng::Result<Self> {
        let PostBox(opened) = cx.provided()?;
        if let Some(post) = opened.get() {
            return Ok(post.clone());
        }
        let post = Self::open(&cx.config().mail, &cx.config().mail_from)?;
        Ok(opened.get_or_init(|| post).clone())
    }

    /// Opens `dir:FOLDER` or `smtp://user:password@host:587`; connects when a letter is sent.
    ///
    /// With a password, or `?tls=required`, SMTP is never spoken in the clear; `?tls=none` turns
    /// encryption off for a server on this machine; `smtps://` encrypts from the first byte.
    ///
    /// # Errors
    /// [`Error::Url`] or [`Error::From`].
    pub fn open(url: &EngineUrl, from: &str) -> Result<Self, Error> {
        let from = from.parse().map_err(|_| Error::From(from.to_owned()))?;
        let mut options = url.options();
        let way = match url.scheme() {
            "dir" => Way::Folder(PathBuf::from(url.path())),
            "smtp" | "smtps" => {
                let tls: Option<String> = options.take("tls")?;
                Way::Smtp(smtp(url, tls.as_deref())?)
            }
            _ => return Err(url.unknown_scheme("mail", OPENS).into()),
        };
        options.finish()?;
        Ok(Self { from, way })
    }

    /// Sends a letter.
    ///
    /// # Errors
    /// [`Error`]; unless it is [`Error::Letter`], trying again may help.
    pub async fn send(&self, letter: &Letter) -> Result<(), Error> {
        let message = letter.write(&self.from)?;
        match &self.way {
            Way::Smtp(smtp) => smtp.send(message).await.map(drop).map_err(Error::from),
            Way::Folder(folder) => {
                let path = folder.join(format!("{}.eml", letter.id));
                let bytes = message.formatted();
                let write = || {
                    let path = path.clone();
                    tokio::task::spawn_blocking(move || write_once(&path, &bytes))
                };
                let written = write().await.unwrap_or_else(|error| Err(io::Error::other(error)));
                written.map_err(|source| Error::File { path, source })
            }
        }
    }
}

fn smtp(url: &EngineUrl, tls: Option<&str>) -> Result<AsyncSmtpTransport<Tokio1Executor>, Error> {
    let [host] = url.hosts() else {
        return Err(url.fault("hosts", "mail goes to one server").into());
    };
    let parameters = || TlsParameters::new(host.name.clone()).map_err(Error::from);
    let is_secret = url.password().is_some();
    let (tls, port) = match (url.scheme(), tls) {
        ("smtps", None) => (Tls::Wrapper(parameters()?), 465),
        ("smtp", Some("required")) => (Tls::Required(parameters()?), 587),
        ("smtp", None) if is_secret => (Tls::Required(parameters()?), 587),
        ("smtp", None) => (Tls::Opportunistic(parameters()?), 25),
        ("smtp", Some("none")) => (Tls::None, 25),
        _ => {
            let reason = "`tls` is `required` or `none`, and `smtps:` takes neither";
            return Err(url.fault("query", reason).into());
        }
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&*host.name)
        .port(host.port.unwrap_or(port))
        .tls(tls)
        .timeout(Some(TIMEOUT));
    if let (Some(user), Some(password)) = (url.user(), url.password()) {
        let password = password.reveal().to_owned();
        builder = builder.credentials(Credentials::new(user.to_owned(), password));
    }
    Ok(builder.build())
}

/// Writes a file whole or not at all, and leaves one alone that is there.
///
/// Whoever writes has the draft locked; another one fails and is to come back. A writer that was killed
/// leaves the draft without the lock, and the next one takes it.
fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let draft = path.with_extension("draft");
    let mut file = File::options().create(true).truncate(false).write(true).open(&draft)?;
    file.try_lock().map_err(io::Error::from)?;
    if path.exists() {
        // Somebody was faster between the two looks; the draft, if it is still there, is nobody's.
        let _ = std::fs::remove_file(&draft);
        return Ok(());
    }
    let written = (|| {
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        // Gives the room back. The file stays: others may be waiting for its lock.
        let _ = file.set_len(0);
    }
    written
}

const OPENS: &[&str] = &["dir", "smtp", "smtps"];
/// For each step of the exchange.
const TIMEOUT: Duration = Duration::from_secs(20);
