//! Why a process did not start, said in one line.

use std::{error::Error as StdError, fmt, io, path::PathBuf};

use crate::config::ConfigError;

/// Why a process did not start. Nothing of it runs, and it ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on `{listen}`: {}; `{setting}` sets another", bind_reason(.source))]
    Listen {
        /// The address.
        listen: String,
        /// The config key or flag that says it.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The data folder cannot be written.
    #[error("cannot write the data folder `{}`: {source}; `data` sets another", .path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A room cannot be opened; `key` is where its URL is set.
    #[error("cannot start: {} (config key `{key}`)", Chain(.source.as_ref()))]
    Room {
        /// The config key of the room's URL.
        key: &'static str,
        /// What the room said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The database lacks migrations, and this is not the place to apply them.
    #[error("the database lacks {} of this program's migrations ({}); run `{program} migrate`", .names.len(), .names.join(", "))]
    Pending {
        /// The program's name.
        program: &'static str,
        /// Names of the migrations.
        names: Vec<&'static str>,
    },
    /// A role alone, on an engine that lives in one process.
    #[error(
        "`{role}` cannot run alone: the bus is `{engine}:`, which lives in one process, so that what a worker sends would never reach a page; run all roles in one process, name a shared engine in `bus.url`, or set `bus.allow_split` to do without"
    )]
    NotShared {
        /// The role.
        role: &'static str,
        /// The engine.
        engine: String,
    },
    /// What the site does at its start failed.
    #[error("cannot start: {0}")]
    Site(crate::Error),
    /// The program itself, or the machine, is at fault.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".into(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".into(),
        io::ErrorKind::InvalidInput => format!("{error}, which is written `127.0.0.1:8080`"),
        _ => error.to_string(),
    }
}

/// An error with all its causes on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last.replace('\n', " "))?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !last.contains(&text) {
                write!(f, ": {}", text.replace('\n', " "))?;
            }
            last = text;
            next = cause.source();
        }
        Ok(())
    }
}
