//! The config: defaults, then `throng.toml`, then `THRONG_…` variables, each value with its source.
//!
//! The whole list of keys is one table ([`KEYS`]); parsing, errors, `throng config` and the
//! reference page all read it.

mod ask;
mod keys;
mod print;
mod problem;
mod read;
mod secret;
mod suggest;

use std::{
    ffi::OsString,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use throng_core::{EngineUrl, Secret};

use ask::Ask;
pub use keys::{KEYS, Key, Kind};
pub use print::{reference, to_json, to_toml};
pub use problem::ConfigError;
use read::Settings;
pub(crate) use secret::random_text;
#[cfg(feature = "edge")]
pub(crate) use suggest::nearest;

/// The effective config. Made by [`Config::load`]; every value has been checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where this runs; decides on migrations at start, the secret key and cookie flags.
    pub env: Env,
    /// The folder of the embedded engines.
    pub data: PathBuf,
    /// Signs sessions and tokens.
    pub secret_key: Secret,
    /// Former secret keys, newest first.
    pub secret_key_fallbacks: Vec<Secret>,
    /// Where the site's tables are.
    pub database: EngineUrl,
    /// Where cached values are.
    pub cache: EngineUrl,
    /// Where tasks wait.
    pub queue: EngineUrl,
    /// Whether django-celery-beat's tables are fired, and where their tasks go that name no queue.
    pub django_beat: Option<String>,
    /// What carries messages to open pages.
    pub bus: EngineUrl,
    /// Whether a role may run alone on a bus that lives in one process.
    pub bus_allow_split: bool,
    /// How mail leaves.
    pub mail: EngineUrl,
    /// The sender of mail.
    pub mail_from: String,
    /// How the web role listens and answers.
    pub web: Web,
    /// The page cache before the web role.
    pub edge: Edge,
    /// How visitors are remembered.
    pub session: Session,
    /// Tasks that a worker runs at once.
    pub concurrency: usize,
    /// Queues that a worker takes tasks from; empty: those of the registered tasks.
    pub queues: Vec<String>,
    /// Names of the only tasks that a worker runs, with stars; empty: all.
    pub tasks: Vec<String>,
    /// Names of tasks that a worker leaves to others, with stars.
    pub not_tasks: Vec<String>,
    /// Node numbers from which this process takes one for its ids.
    pub id_nodes: RangeInclusive<u16>,
    /// What is logged and how.
    pub log: Log,
    settings: Settings,
}

/// Where a site runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Env {
    /// On somebody's desk: migrates at start, makes its own secret key.
    Development,
    /// Before visitors: neither; cookies are `Secure`.
    Production,
}

/// Config of the web role.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Web {
    /// Address and port as configured.
    pub listen: String,
    /// How visitors reach the site, without a slash at the end.
    pub public_url: String,
    /// Other origins whose forms may post here.
    pub trusted_origins: Vec<String>,
    /// Connections held open at once.
    pub max_connections: usize,
    /// The largest request body.
    pub max_body_bytes: usize,
    /// How long headers may take, and an idle connection is kept.
    pub header_timeout: Duration,
    /// How long the site may take to begin an answer.
    pub request_timeout: Duration,
    /// How long a stopping process waits for what is under way.
    pub drain: Duration,
    /// Whether pages are compressed.
    pub gzip: bool,
}

/// Config of the page cache in the web role's own process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Edge {
    /// Whether there is one.
    pub is_enabled: bool,
    /// What it may hold in memory, in MiB.
    pub cache_mib: u64,
    /// What it may hold on disk, in MiB; 0: nothing.
    pub disk_mib: u64,
    /// How long a page that says nothing about it is kept.
    pub ttl: Duration,
    /// Networks of proxies that are believed.
    pub trust: Vec<String>,
    /// What a purge over HTTP must show; `None`: there are none.
    pub purge_token: Option<Secret>,
    /// Edges that are programs of their own, which are told of every purge (`edge.purge_urls`).
    pub purge_urls: Vec<String>,
    /// Where figures are told; empty: nowhere.
    pub figures: String,
    /// Whether each request writes a line to standard output.
    pub access_log: bool,
}

/// Config of sessions and their cookies.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Session {
    /// Name of the session cookie.
    pub cookie: String,
    /// How long a session lasts, in seconds.
    pub max_age_s: u64,
    /// Domain of the cookies; `None`: the exact host.
    pub domain: Option<String>,
    /// Whether cookies travel over HTTPS alone.
    pub is_secure: bool,
    /// `Lax`, `Strict` or `None`.
    pub same_site: &'static str,
    /// What sign-in writes as `_auth_user_backend`.
    pub auth_backend: String,
}

/// Config of the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Log {
    /// Level or filter.
    pub level: String,
    /// One JSON object a line, rather than text.
    pub is_json: bool,
    /// Whether each request writes a line.
    pub requests: bool,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A line of the config file.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// Made by this program in development.
    Made(PathBuf),
}

impl Config {
    /// Reads the config: `file`, else `THRONG_CONFIG`, else `throng.toml` if it is there; then the
    /// environment.
    ///
    /// # Errors
    /// [`ConfigError`], one line that says what is wrong, where, and what would be right.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let named = file.map(Path::to_owned);
        let named = named.or_else(|| std::env::var_os("THRONG_CONFIG").map(PathBuf::from));
        let file = match read::find_file(named.filter(|path| !path.as_os_str().is_empty())) {
            None => None,
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(source) => return Err(ConfigError::Unreadable { path, source }),
            },
        };
        let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        Self::read(file, std::env::vars_os())
    }

    /// Reads the config from the text of a file and from variables, touching nothing.
    ///
    /// # Errors
    /// [`ConfigError`], as [`Config::load`].
    pub fn read(
        file: Option<(&Path, &str)>,
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Settings::defaults();
        if let Some((path, text)) = file {
            settings.read_toml(path, text)?;
        }
        settings.read_env(vars)?;
        Self::from_settings(settings)
    }

    /// Whether this is production.
    #[must_use]
    pub fn is_production(&self) -> bool {
        self.env == Env::Production
    }

    /// The log of a command, whose output is its own: warnings alone unless somebody set a level.
    pub(crate) fn log_of_command(&self) -> Log {
        let mut log = self.log.clone();
        if self.settings.setting("log.level").source == Source::Default {
            "warn".clone_into(&mut log.level);
        }
        log
    }

    fn from_settings(mut settings: Settings) -> Result<Self, ConfigError> {
        let data = settings.setting("data").text.clone();
        for key in KEYS.iter().filter(|key| key.default.contains(DATA)) {
            let text = settings.setting(key.name).text.replace(DATA, &url_path(&data));
            settings.replace(key.name, text);
        }
        let ask = Ask(&settings);
        let env = match ask.text("env").as_str() {
            "production" => Env::Production,
            _ => Env::Development,
        };
        let listen = ask.text("web.listen");
        let public_url = match ask.address("web.public_url")? {
            url if url.is_empty() => format!("http://{listen}"),
            url => url,
        };
        Ok(Self {
            env,
            data: data.into(),
            secret_key: Secret::new(ask.long_secret("secret_key")?),
            secret_key_fallbacks: ask
                .list("secret_key_fallbacks")
                .into_iter()
                .map(Secret::new)
                .collect(),
            database: ask.url("database.url")?,
            cache: ask.url("cache.url")?,
            queue: ask.url("queue.url")?,
            django_beat: (ask.text("queue.beat") == "django").then(|| ask.text("queue.beat_queue")),
            bus: ask.url("bus.url")?,
            bus_allow_split: ask.flag("bus.allow_split"),
            mail: ask.url("mail.url")?,
            mail_from: ask.text("mail.from"),
            web: Web {
                listen,
                public_url,
                trusted_origins: ask.origins("web.trusted_origins")?,
                max_connections: ask.size("web.max_connections"),
                max_body_bytes: ask.size("web.max_body_bytes"),
                header_timeout: ask.time_ms("web.header_timeout_ms"),
                request_timeout: ask.time_ms("web.request_timeout_ms"),
                drain: ask.time_ms("web.drain_ms"),
                gzip: ask.flag("web.gzip"),
            },
            edge: Edge {
                is_enabled: ask.flag("edge.enabled"),
                cache_mib: ask.count("edge.cache_mib"),
                disk_mib: ask.count("edge.disk_mib"),
                ttl: ask.time_ms("edge.ttl_ms"),
                trust: ask.list("edge.trust"),
                purge_token: Some(ask.text("edge.purge_token"))
                    .filter(|token| !token.is_empty())
                    .map(Secret::new),
                purge_urls: ask.list("edge.purge_urls"),
                figures: ask.text("edge.figures"),
                access_log: ask.flag("edge.access_log"),
            },
            session: Session {
                cookie: ask.cookie_name("session.cookie")?,
                max_age_s: ask.count("session.max_age_s"),
                domain: Some(ask.text("session.domain")).filter(|domain| !domain.is_empty()),
                is_secure: match ask.text("session.secure").as_str() {
                    "always" => true,
                    "never" => false,
                    _ => env == Env::Production,
                },
                same_site: match ask.text("session.same_site").as_str() {
                    "strict" => "Strict",
                    "none" => "None",
                    _ => "Lax",
                },
                auth_backend: ask.text("session.auth_backend"),
            },
            concurrency: ask.size("worker.concurrency"),
            queues: ask.list("worker.queues"),
            tasks: ask.list("worker.tasks"),
            not_tasks: ask.list("worker.not"),
            id_nodes: ask.nodes("ids.nodes")?,
            log: Log {
                level: ask.log_level("log.level")?,
                is_json: ask.text("log.format") == "json",
                requests: ask.flag("log.requests"),
            },
            settings,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Made(path) => write!(f, "made, in {}", path.display()),
        }
    }
}

/// A file path inside a URL.
fn url_path(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

const DATA: &str = "{data}";
