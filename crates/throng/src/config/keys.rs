//! The table of config keys: what there is, in which unit, what holds when nothing is set.

/// One key of `throng.toml`. Its environment name is mechanical: `web.listen` is `THRONG_WEB_LISTEN`.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and key: `web.listen`; keys without a section stand at the top of the file.
    pub name: &'static str,
    /// What the value is.
    pub kind: Kind,
    /// What holds when the key is not set; `{data}` stands for the data folder.
    pub default: &'static str,
    /// One or two sentences for the reference page: what it does, with its unit.
    pub about: &'static str,
}

/// What a key's value is, and so what a wrong one is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that is never printed.
    Secret,
    /// Texts that are never printed; in the environment separated by commas.
    Secrets,
    /// Texts; in the environment separated by commas.
    List,
    /// A file or folder, relative to where the program is started.
    Path,
    /// An engine URL.
    Url,
    /// `host:port` to listen on.
    Address,
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Count {
        /// The least that makes sense.
        min: u64,
        /// The most.
        max: u64,
    },
    /// One of a few words.
    Choice(&'static [&'static str]),
}

impl Key {
    /// `THRONG_WEB_LISTEN` of `web.listen`.
    #[must_use]
    pub fn env_name(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The section, empty for keys at the top, and the key inside it.
    #[must_use]
    pub fn section(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }

    /// Whether the value must not print as it is.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Secrets)
    }
}

impl Kind {
    /// What would be right, for errors and the reference page.
    #[must_use]
    pub fn wants(&self) -> String {
        match self {
            Self::Text => "text in quotes".to_owned(),
            Self::Secret => "a secret text in quotes".to_owned(),
            Self::Secrets => "a list of secret texts, `[\"…\", \"…\"]`".to_owned(),
            Self::List => "a list of texts, `[\"…\", \"…\"]`".to_owned(),
            Self::Path => "a path in quotes".to_owned(),
            Self::Url => "an engine URL in quotes, such as `\"memory:\"`".to_owned(),
            Self::Address => "`\"address:port\"`, such as `\"127.0.0.1:8000\"`".to_owned(),
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Count { min, max: u64::MAX } => format!("a whole number from {min}"),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Choice(words) => {
                words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" or ")
            }
        }
    }
}

/// What every environment name of the config begins with.
pub(crate) const ENV_PREFIX: &str = "THRONG_";

/// Every key, in the order of the reference page.
pub const KEYS: &[Key] = &[
    Key {
        name: "env",
        kind: Kind::Choice(&["development", "production"]),
        default: "development",
        about: "Development migrates at start and makes its own secret key. Production does \
                neither, and marks cookies `Secure`.",
    },
    Key {
        name: "data",
        kind: Kind::Path,
        default: "data",
        about: "The folder where the embedded engines keep their files. Made when missing.",
    },
    Key {
        name: "secret_key",
        kind: Kind::Secret,
        default: "",
        about: "Signs sessions and tokens; at least 32 characters. A Django site's SECRET_KEY \
                makes both sites read each other's sessions. Required in production; in \
                development one is made in `secret_key` in the data folder.",
    },
    Key {
        name: "secret_key_fallbacks",
        kind: Kind::Secrets,
        default: "",
        about: "Former secret keys, newest first: what they signed is still read. Put the old key \
                here when `secret_key` changes.",
    },
    Key {
        name: "database.url",
        kind: Kind::Url,
        default: "sqlite:{data}/site.db",
        about: "Where the site's tables are.",
    },
    Key {
        name: "cache.url",
        kind: Kind::Url,
        default: "memory:",
        about: "Where cached values are.",
    },
    Key {
        name: "queue.url",
        kind: Kind::Url,
        default: "database:",
        about: "Where tasks wait. `database:` is the site's own database.",
    },
    Key {
        name: "queue.beat",
        kind: Kind::Choice(&["off", "django"]),
        default: "off",
        about: "Schedules beside those of the program: `django` fires what the tables of \
                django-celery-beat in the site's database say, in place of `celery beat`.",
    },
    Key {
        name: "queue.beat_queue",
        kind: Kind::Text,
        default: "celery",
        about: "Where such a task goes when its row names no queue and the program does not know \
                it: Celery's `task_default_queue`.",
    },
    Key {
        name: "bus.url",
        kind: Kind::Url,
        default: "memory:",
        about: "What carries messages to the pages that visitors have open.",
    },
    Key {
        name: "bus.allow_split",
        kind: Kind::Flag,
        default: "false",
        about: "Lets a role run alone although the bus lives in one process: a message then \
                reaches only the pages that its own process serves.",
    },
    Key {
        name: "mail.url",
        kind: Kind::Url,
        default: "dir:{data}/mail",
        about: "How mail leaves: `dir:` writes files, `smtp://user:password@host:587` sends.",
    },
    Key {
        name: "mail.from",
        kind: Kind::Text,
        default: "throng <noreply@localhost>",
        about: "The sender of mail.",
    },
    Key {
        name: "web.listen",
        kind: Kind::Address,
        default: "127.0.0.1:8000",
        about: "The address and port that the web role listens on; port 0 takes a free one. A \
                socket handed over by systemd goes first.",
    },
    Key {
        name: "web.public_url",
        kind: Kind::Text,
        default: "",
        about: "How visitors reach the site, for links in mail: `https://tickets.example`. Unset, \
                it is `http://` and `web.listen`.",
    },
    Key {
        name: "web.trusted_origins",
        kind: Kind::List,
        default: "",
        about: "Other origins whose forms may post here, such as `https://www.example`. The site's \
                own is always trusted.",
    },
    Key {
        name: "web.max_connections",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        default: "10000",
        about: "Connections held open at once. Further ones wait in the system's backlog.",
    },
    Key {
        name: "web.max_body_bytes",
        kind: Kind::Count { min: 1, max: u64::MAX },
        default: "2097152",
        about: "The largest request body, in bytes. A larger one is refused with 413.",
    },
    Key {
        name: "web.header_timeout_ms",
        kind: Kind::Count { min: 100, max: 3_600_000 },
        default: "30000",
        about: "How long a client may take to send a request's headers, and how long an idle \
                connection is kept, in milliseconds.",
    },
    Key {
        name: "web.request_timeout_ms",
        kind: Kind::Count { min: 100, max: 3_600_000 },
        default: "30000",
        about: "How long the site may take to begin an answer, in milliseconds. After that the \
                visitor gets 503.",
    },
    Key {
        name: "web.drain_ms",
        kind: Kind::Count { min: 0, max: 3_600_000 },
        default: "10000",
        about: "How long requests and tasks under way may take to finish when the process stops, \
                in milliseconds.",
    },
    Key {
        name: "web.gzip",
        kind: Kind::Flag,
        default: "true",
        about: "Compresses pages for browsers that ask for it.",
    },
    Key {
        name: "edge.enabled",
        kind: Kind::Flag,
        default: "false",
        about: "Puts the page cache of `throng edge` before the site, in the web role's own process: \
                visitors who are not signed in get pages from memory, and a change purges what shows \
                it. Needs a program built with the feature `edge`.",
    },
    Key {
        name: "edge.cache_mib",
        kind: Kind::Count { min: 1, max: 1_048_576 },
        default: "256",
        about: "What the page cache may hold in memory, in MiB.",
    },
    Key {
        name: "edge.disk_mib",
        kind: Kind::Count { min: 0, max: 16_777_216 },
        default: "0",
        about: "What the page cache may hold on disk below that, in MiB, in `pages` in the data folder, \
                where the next process finds it. 0 keeps nothing on disk.",
    },
    Key {
        name: "edge.ttl_ms",
        kind: Kind::Count { min: 1, max: 86_400_000 },
        default: "60000",
        about: "How long a page that says nothing about it is kept, in milliseconds; also what \
                bounds how old a page can be whose purge was lost.",
    },
    Key {
        name: "edge.trust",
        kind: Kind::List,
        default: "",
        about: "Networks of proxies before this process, such as `10.0.0.0/8`, whose \
                X-Forwarded-* are believed.",
    },
    Key {
        name: "edge.purge_token",
        kind: Kind::Secret,
        default: "",
        about: "What `Authorization: Bearer` of a PURGE over HTTP must say. Unset, nobody may; the \
                site itself needs none.",
    },
    Key {
        name: "edge.purge_urls",
        kind: Kind::List,
        default: "",
        about: "Page caches that are told over HTTP what has changed, such as `http://10.0.0.9:8080`: \
                each `throng edge` before the site, and other processes of it where the bus is not \
                shared. They have the same `edge.purge_token`.",
    },
    Key {
        name: "edge.figures",
        kind: Kind::Text,
        default: "",
        about: "An address such as `127.0.0.1:9100` where figures are told: `/metrics` for Prometheus, \
                `/stats;csv` as HAProxy writes them, `/top`, `/patterns` and `/purges`. Whoever can \
                connect may read them. Unset, there are none.",
    },
    Key {
        name: "edge.access_log",
        kind: Kind::Flag,
        default: "false",
        about: "Writes a line of JSON for each request to standard output, those answered from the \
                cache too.",
    },
    Key {
        name: "session.cookie",
        kind: Kind::Text,
        default: "sessionid",
        about: "Name of the session cookie.",
    },
    Key {
        name: "session.max_age_s",
        kind: Kind::Count { min: 60, max: 315_360_000 },
        default: "1209600",
        about: "How long a session lasts after it was last changed, in seconds.",
    },
    Key {
        name: "session.domain",
        kind: Kind::Text,
        default: "",
        about: "Domain of the cookies. Unset, they belong to the exact host.",
    },
    Key {
        name: "session.secure",
        kind: Kind::Choice(&["auto", "always", "never"]),
        default: "auto",
        about: "Whether cookies travel over HTTPS alone. `auto`: in production.",
    },
    Key {
        name: "session.same_site",
        kind: Kind::Choice(&["lax", "strict", "none"]),
        default: "lax",
        about: "Whether browsers send the cookies along from other sites.",
    },
    Key {
        name: "session.auth_backend",
        kind: Kind::Text,
        default: "django.contrib.auth.backends.ModelBackend",
        about: "What sign-in writes as Django's `_auth_user_backend`. Matters only beside a Django \
                site.",
    },
    Key {
        name: "worker.concurrency",
        kind: Kind::Count { min: 1, max: 10_000 },
        default: "8",
        about: "Tasks that the worker role runs at once.",
    },
    Key {
        name: "worker.queues",
        kind: Kind::List,
        default: "",
        about: "Queues that the worker role takes tasks from. Unset: those of the registered \
                tasks.",
    },
    Key {
        name: "worker.tasks",
        kind: Kind::List,
        default: "",
        about: "Names of the only tasks that the worker role runs; `*` stands for any text. Unset: \
                all.",
    },
    Key {
        name: "worker.not",
        kind: Kind::List,
        default: "",
        about: "Names of tasks that the worker role leaves to others; `*` stands for any text.",
    },
    Key {
        name: "ids.nodes",
        kind: Kind::Text,
        default: "0-1023",
        about: "The node numbers from which each process takes one for its ids, from 0 to 1023. \
                Machines that do not share the data folder need ranges that do not overlap.",
    },
    Key {
        name: "log.level",
        kind: Kind::Text,
        default: "info",
        about: "What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as \
                `info,throng=debug`.",
    },
    Key {
        name: "log.format",
        kind: Kind::Choice(&["text", "json"]),
        default: "text",
        about: "How lines on stderr look.",
    },
    Key {
        name: "log.requests",
        kind: Kind::Flag,
        default: "true",
        about: "Writes one line for each request.",
    },
];
