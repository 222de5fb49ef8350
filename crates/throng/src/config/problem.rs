//! What is wrong with the config, said so that the one line is enough to mend it.

use std::{io, path::PathBuf};

use super::Source;

/// What is wrong with the config. The program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The config file cannot be read.
    #[error("cannot read config file `{}`: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The config file is not TOML.
    #[error("{at} is not TOML: {reason}")]
    NotToml {
        /// Where it stops being TOML.
        at: Source,
        /// What the parser said.
        reason: String,
    },
    /// There is no such key.
    #[error("{at}: unknown config key `{key}`; {}", hint(.meant.as_deref()))]
    UnknownKey {
        /// Where it stands.
        at: Source,
        /// The key as it was written.
        key: String,
        /// The nearest key that there is.
        meant: Option<String>,
    },
    /// The value is not what the key takes.
    #[error("{at}: `{key}` is {value}; it takes {wants}")]
    WrongValue {
        /// Where it stands.
        at: Source,
        /// The key.
        key: String,
        /// The value, hidden when it is a secret.
        value: String,
        /// What would be right.
        wants: String,
    },
    /// Production needs a key that only the operator can choose.
    #[error(
        "`secret_key` must be set in production: put at least 32 random characters into THRONG_SECRET_KEY"
    )]
    SecretKeyMissing,
    /// The secret key of development cannot be kept.
    #[error("cannot keep the secret key in `{}`: {source}", .path.display())]
    SecretKeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn hint(meant: Option<&str>) -> String {
    meant.map_or_else(
        || "`config --reference` lists those there are".to_owned(),
        |meant| format!("did you mean `{meant}`?"),
    )
}
