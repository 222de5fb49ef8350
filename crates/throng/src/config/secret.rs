//! The secret key of development: made once in the data folder, readable by its owner alone.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use throng_core::Secret;

use super::{Config, ConfigError, Source};

impl Config {
    /// Makes sure that there is a secret key: in development one is made, once, in `secret_key` in
    /// the data folder.
    ///
    /// # Errors
    /// [`ConfigError::SecretKeyMissing`] in production; [`ConfigError::SecretKeyFile`] when the
    /// file cannot be kept.
    pub fn with_secret_key(mut self) -> Result<Self, ConfigError> {
        if !self.secret_key.reveal().is_empty() {
            return Ok(self);
        }
        if self.is_production() {
            return Err(ConfigError::SecretKeyMissing);
        }
        let path = self.data.join("secret_key");
        let key = read_or_make(&self.data, &path)
            .map_err(|source| ConfigError::SecretKeyFile { path: path.clone(), source })?;
        self.settings.made("secret_key", key.clone(), Source::Made(path));
        self.secret_key = Secret::new(key);
        Ok(self)
    }
}

fn read_or_make(data: &Path, path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(key) if !key.trim().is_empty() => return Ok(key.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(data)?;
    let key = random_text(50)?;
    // Written aside and linked into place, so that of two processes that start at once both read
    // the same whole key.
    let aside: PathBuf = data.join(format!("secret_key.{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(key.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(path)?.trim().to_owned())
        }
        Err(error) => Err(error),
    }
}

/// `length` characters from a-z and 0-9 of the system's randomness.
pub(crate) fn random_text(length: usize) -> io::Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    // 32 letters divide 256 evenly, so that none is likelier than another.
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}
