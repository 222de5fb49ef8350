//! What is wrong with the file of an edge: on which line, in which key, and what would be right.

use std::{
    fmt::Display,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::config::nearest;

/// What is wrong with a file, in one line that is enough to mend it.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum FileError {
    #[error("cannot read `{}`: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {reason}", .path.display())]
    Text { path: PathBuf, line: usize, reason: String },
    #[error("{}:{line}: `{key}`: {reason}", .path.display())]
    Key { path: PathBuf, line: usize, key: String, reason: String },
}

impl FileError {
    /// The same for a program that reads it.
    pub(in super::super) fn json(&self) -> serde_json::Value {
        let (line, key, reason) = match self {
            Self::Unreadable { source, .. } => (None, None, source.to_string()),
            Self::Text { line, reason, .. } => (Some(line), None, reason.clone()),
            Self::Key { line, key, reason, .. } => (Some(line), Some(key), reason.clone()),
        };
        serde_json::json!({ "line": line, "key": key, "reason": reason })
    }
}

/// The content of a file, to say where in it something is wrong.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Text<'_> {
    /// The whole of it as a value.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        let wrong = |error: &toml::de::Error, key: &str| {
            let span = error.span().unwrap_or(0..0);
            self.wrong(&span, key, plainly(&error.message().replace('\n', "; ")))
        };
        let toml = toml::Deserializer::parse(self.text).map_err(|error| wrong(&error, ""))?;
        serde_path_to_error::deserialize(toml).map_err(|error| {
            let key = key_of(error.path());
            wrong(error.inner(), &key)
        })
    }

    /// `reason` is what is wrong with `key`, at `span`.
    pub(super) fn wrong(&self, span: &Range<usize>, key: &str, reason: impl Display) -> FileError {
        let (path, line) = (self.path.to_owned(), self.line_of(span.start));
        let (key, reason) = (key.to_owned(), reason.to_string());
        match key.is_empty() {
            true => FileError::Text { path, line, reason },
            false => FileError::Key { path, line, key, reason },
        }
    }

    /// `reason` is what is missing from the file.
    pub(super) fn missing(&self, reason: &str) -> FileError {
        self.wrong(&(self.text.len()..self.text.len()), "", reason)
    }

    /// `reason` is what is wrong with `key` of one of `sections`, the first in which it stands. The
    /// empty section is the head of the file.
    pub(super) fn wrong_key(&self, sections: &[&str], key: &str, reason: &str) -> FileError {
        let table = DeTable::parse(self.text).ok();
        let span = |section: &str| {
            let table = table.as_ref()?.get_ref();
            let inner = match table.get(section).map(toml::Spanned::get_ref) {
                Some(DeValue::Table(inner)) => inner,
                _ if section.is_empty() => table,
                _ => return None,
            };
            inner.get_key_value(key).map(|(key, _)| key.span())
        };
        let found = sections.iter().find_map(|section| Some((*section, span(section)?)));
        let (section, span) = found.unwrap_or_default();
        let dot = if section.is_empty() { "" } else { "." };
        self.wrong(&span, &format!("{section}{dot}{key}"), reason)
    }

    fn line_of(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// `upstream[0].url`, without the names that serde gives to what only toml knows.
fn key_of(path: &serde_path_to_error::Path) -> String {
    let whole = path.to_string();
    let known = whole.split('.').filter(|part| !part.starts_with("$__") && *part != "?");
    known.collect::<Vec<_>>().join(".")
}

/// What serde says of a name that it does not know, with the one that was meant.
fn plainly(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else { return message.to_owned() };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(name) = names.next() else { return message.to_owned() };
    let known: Vec<&str> = names.collect();
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("there is no such key; did you mean `{meant}`?"),
        None => format!("there is no such key here; there are `{}`", known.join("`, `")),
    }
}
