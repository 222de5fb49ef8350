//! What can go wrong on the bus, sorted by what a caller can do about it.

use throng_core::{Kind, url::UrlError};

/// The result of everything on the bus.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the bus did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The channel holds as many messages as it may. Nothing was sent.
    #[error("channel `{channel}` is full: it holds {capacity} messages")]
    ChannelFull {
        /// The channel.
        channel: String,
        /// How many messages it may hold.
        capacity: usize,
    },
    /// A channel or group name is not one that every engine can carry.
    #[error("`{name}` cannot name a {what}: {reason}")]
    Name {
        /// `channel` or `group`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// What is wrong and what would be right.
        reason: &'static str,
    },
    /// The URL of the engine is wrong.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The engine could not be reached or did not answer as it should.
    #[error("cannot {doing} on bus engine `{engine}`")]
    Engine {
        /// The engine's name.
        engine: &'static str,
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Engine { .. } => Kind::Retry,
            Self::ChannelFull { .. } => Kind::Refuse,
            Self::Name { .. } | Self::Url(_) => Kind::Bug,
        }
    }
}
