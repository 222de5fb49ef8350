//! Turns checked settings into the types of [`Config`](super::Config).

use std::{ops::RangeInclusive, time::Duration};

use throng_core::EngineUrl;
use tracing_subscriber::filter::LevelFilter;

use super::{ConfigError, KEYS, Kind, read::Settings};

/// Turns checked text into types; what only the whole value shows to be wrong is an error here.
pub(super) struct Ask<'a>(pub(super) &'a Settings);

impl Ask<'_> {
    pub(super) fn text(&self, name: &str) -> String {
        self.0.setting(name).text.clone()
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let text = &self.0.setting(name).text;
        text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.0.setting(name).text == "true"
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        self.0.setting(name).text.parse().unwrap_or_default()
    }

    pub(super) fn size(&self, name: &str) -> usize {
        usize::try_from(self.count(name)).unwrap_or(usize::MAX)
    }

    pub(super) fn time_ms(&self, name: &str) -> Duration {
        Duration::from_millis(self.count(name))
    }

    pub(super) fn url(&self, name: &str) -> Result<EngineUrl, ConfigError> {
        let text = self.text(name);
        EngineUrl::parse(&text).map_err(|error| self.wrong(name, error.to_string()))
    }

    pub(super) fn long_secret(&self, name: &str) -> Result<String, ConfigError> {
        let text = self.text(name);
        if !text.is_empty() && text.chars().count() < SECRET_CHARS {
            return Err(self.wrong(name, format!("at least {SECRET_CHARS} characters")));
        }
        Ok(text)
    }

    pub(super) fn cookie_name(&self, name: &str) -> Result<String, ConfigError> {
        let text = self.text(name);
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || !text.chars().all(is_letter) {
            return Err(self.wrong(name, "letters, digits, `-`, `_` and `.`".to_owned()));
        }
        Ok(text)
    }

    pub(super) fn nodes(&self, name: &str) -> Result<RangeInclusive<u16>, ConfigError> {
        let text = self.text(name);
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last && last < 1024 => Ok(first..=last),
            _ => Err(self.wrong(name, "a range within 0 to 1023, such as `\"0-99\"`".to_owned())),
        }
    }

    /// `https://tickets.example`, perhaps with a path below; empty when it is not set.
    pub(super) fn address(&self, name: &str) -> Result<String, ConfigError> {
        let text = self.text(name);
        match text.is_empty() || host(&text).is_some() {
            true => Ok(text.trim_end_matches('/').to_owned()),
            false => Err(self.wrong(name, "an address such as `https://tickets.example`".into())),
        }
    }

    /// Addresses without a path.
    pub(super) fn origins(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        let origins = self.list(name);
        let is_right = |text: &String| {
            host(text).is_some_and(|host| !host.trim_end_matches('/').contains('/'))
        };
        match origins.iter().all(is_right) {
            true => Ok(origins),
            false => Err(self.wrong(name, "origins such as `https://www.example`".into())),
        }
    }

    pub(super) fn log_level(&self, name: &str) -> Result<String, ConfigError> {
        let text = self.text(name);
        // For the filter, a word that is no level is the name of a part of the program, and nothing
        // else is logged: a level with a typing error would silence the site.
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut bare = words.filter(|word| !word.contains(['=', '[', ':']));
        if let Some(word) = bare.find(|word| word.parse::<LevelFilter>().is_err()) {
            let wants = format!(
                "`error`, `warn`, `info`, `debug`, `trace` or a filter such as \
                 `info,throng=debug`, and `{word}` is neither"
            );
            return Err(self.wrong(name, wants));
        }
        match tracing_subscriber::EnvFilter::builder().parse(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(self.wrong(name, format!("a level or a filter: {error}"))),
        }
    }

    fn wrong(&self, name: &str, wants: String) -> ConfigError {
        let setting = self.0.setting(name);
        let is_secret = KEYS.iter().any(|key| key.name == name && key.is_secret());
        let is_url = KEYS.iter().any(|key| key.name == name && key.kind == Kind::Url);
        let value = match setting.text.as_str() {
            _ if is_secret || is_url => "not right".to_owned(),
            text => format!("`{text}`"),
        };
        ConfigError::WrongValue { at: setting.source.clone(), key: name.to_owned(), value, wants }
    }
}

/// What follows `http://` or `https://`, if it can be a host.
fn host(address: &str) -> Option<&str> {
    let rest = ["https://", "http://"].iter().find_map(|scheme| address.strip_prefix(scheme))?;
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "?#\\\"'<>".contains(c);
    (!rest.is_empty() && !rest.starts_with('/') && !rest.contains(is_odd)).then_some(rest)
}

const SECRET_CHARS: usize = 32;
