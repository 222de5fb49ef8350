//! What can be wrong with an edge before it serves anything.

use std::path::PathBuf;

use throng_core::Kind;

/// The result of making and running an edge.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the edge cannot work. What goes wrong with one request is an answer instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An upstream cannot be reached the way it is written.
    #[error("cannot use upstream `{url}`: {reason}")]
    Upstream {
        /// As it was given.
        url: String,
        /// What would be right.
        reason: &'static str,
    },
    /// An upstream cannot be believed the way it is meant to.
    #[error("cannot speak HTTPS with upstream `{url}`: {reason}")]
    Trust {
        /// As it was given.
        url: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// There is nothing to stand in front of.
    #[error("an edge needs at least one upstream")]
    NoUpstream,
    /// Two back ends cannot be told apart.
    #[error("upstream {name} is there twice; give it once, with the weight of both")]
    SameUpstream {
        /// Its host and port, or the name that it was given.
        name: String,
    },
    /// A setting that no edge can run with.
    #[error("cannot use {setting} = {value}: {reason}")]
    Setting {
        /// Its name in [`Config`](crate::Config).
        setting: &'static str,
        /// As it was given.
        value: String,
        /// What would be right.
        reason: &'static str,
    },
    /// A certificate cannot be shown to visitors.
    #[error("cannot use the certificate in `{}`: {reason}", .path.display())]
    Certificate {
        /// The file that is at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to speak TLS with.
    #[error("TLS needs at least one certificate and its key")]
    NoCertificate,
    /// The folder of the store on disk cannot be used.
    #[error("cannot keep pages in `{}`: {source}; name a folder that can be written, or none", .folder.display())]
    Disk {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The listener failed.
    #[error("cannot accept connections")]
    Accept(#[source] std::io::Error),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Accept(_) | Self::Disk { .. } => Kind::Retry,
            Self::Upstream { .. }
            | Self::Trust { .. }
            | Self::NoUpstream
            | Self::SameUpstream { .. }
            | Self::Certificate { .. }
            | Self::NoCertificate
            | Self::Setting { .. } => Kind::Bug,
        }
    }
}
