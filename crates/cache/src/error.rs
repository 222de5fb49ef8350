//! What can go wrong in the cache, sorted by what a caller can do about it.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use throng_core::{Kind, url::UrlError};

/// The result of everything in the cache.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the cache did not do what was asked. Clones cheaply: everyone who waited for one load gets
/// the same failure.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loader failed, and there was nothing older to serve. Nothing was stored.
    #[error("cannot load `{key}` into the cache: {failure}")]
    Load {
        /// The key.
        key: String,
        /// What the loader returned.
        failure: Failure,
    },
    /// The loader did not finish in time. It was stopped.
    #[error("loading `{key}` into the cache took over {limit:?}")]
    Timeout {
        /// The key.
        key: String,
        /// The limit.
        limit: Duration,
    },
    /// The loader panicked, or the cache was closed under it.
    #[error("loading `{key}` into the cache was broken off")]
    Abandoned {
        /// The key.
        key: String,
    },
    /// What the cache holds under the key is not of the type that was asked for, or a value cannot
    /// be written.
    #[error("cannot {doing} the value of `{key}`: {reason}")]
    Value {
        /// `read` or `write`.
        doing: &'static str,
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The URL of the engine is wrong.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The engine could not be reached or did not answer as it should.
    #[error("cannot {doing} on cache engine `{engine}`")]
    Engine {
        /// The engine's name.
        engine: &'static str,
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// What a loader returned instead of a value, shared by all who waited for it.
#[derive(Clone)]
pub struct Failure {
    text: Arc<str>,
    cause: Arc<dyn Any + Send + Sync>,
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Load { .. } | Self::Timeout { .. } | Self::Engine { .. } => Kind::Retry,
            Self::Abandoned { .. } => Kind::Retry,
            Self::Value { .. } | Self::Url(_) => Kind::Bug,
        }
    }

    /// The loader's own error, when this is one of type `E`.
    #[must_use]
    pub fn loader_error<E: 'static>(&self) -> Option<&E> {
        match self {
            Self::Load { failure, .. } => failure.downcast_ref(),
            _ => None,
        }
    }

    pub(crate) fn value(doing: &'static str, key: &str, reason: impl fmt::Display) -> Self {
        Self::Value { doing, key: key.to_owned(), reason: reason.to_string() }
    }
}

impl Failure {
    pub(crate) fn new<E: fmt::Display + Send + Sync + 'static>(error: E) -> Self {
        Self { text: format!("{error:#}").into(), cause: Arc::new(error) }
    }

    /// The loader's own error, when it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({:?})", self.text)
    }
}
