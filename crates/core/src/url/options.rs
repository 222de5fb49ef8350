//! Query options by type: each engine takes what it knows, and what is left over is an error.

use std::{str::FromStr, time::Duration};

use super::{EngineUrl, HIDDEN, UrlError, is_secret};

/// Takes options by name; [`Options::finish`] refuses the ones that nobody took.
#[derive(Debug)]
#[must_use = "call `finish` so that a misspelt option is an error"]
pub struct Options<'a> {
    url: &'a EngineUrl,
    left: Vec<(&'a str, &'a str)>,
    known: Vec<String>,
}

/// A type that an option can have.
pub trait FromOption: Sized {
    /// What the option takes, for the error: "a whole number".
    const WANTS: &'static str;

    /// Reads the decoded value; `None` when it is not of this type.
    fn from_option(value: &str) -> Option<Self>;
}

impl<'a> Options<'a> {
    pub(super) fn new(url: &'a EngineUrl, query: &'a [(String, String)]) -> Self {
        let left = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self { url, left, known: Vec::new() }
    }

    /// The value of `name`, `None` where the URL does not give it.
    ///
    /// # Errors
    /// [`UrlError::OptionValue`] when it is not a `T`.
    pub fn take<T: FromOption>(&mut self, name: &str) -> Result<Option<T>, UrlError> {
        self.known.push(name.to_owned());
        let Some(at) = self.left.iter().position(|(known, _)| *known == name) else {
            return Ok(None);
        };
        let (_, value) = self.left.remove(at);
        let read = T::from_option(value).ok_or_else(|| UrlError::OptionValue {
            name: name.to_owned(),
            url: self.url.to_string(),
            value: if is_secret(name) { HIDDEN.to_owned() } else { value.to_owned() },
            wants: T::WANTS,
        })?;
        Ok(Some(read))
    }

    /// Refuses the options that were not taken.
    ///
    /// # Errors
    /// [`UrlError::UnknownOption`], listing those that were asked for.
    pub fn finish(self) -> Result<(), UrlError> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(UrlError::UnknownOption {
                name: (*name).to_owned(),
                url: self.url.to_string(),
                known: self.known,
            }),
        }
    }
}

impl FromOption for String {
    const WANTS: &'static str = "text";

    fn from_option(value: &str) -> Option<Self> {
        Some(value.to_owned())
    }
}

impl FromOption for bool {
    const WANTS: &'static str = "`true` or `false`";

    fn from_option(value: &str) -> Option<Self> {
        match value {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }
}

impl FromOption for u16 {
    const WANTS: &'static str = "a whole number from 0 to 65535";

    fn from_option(value: &str) -> Option<Self> {
        value.parse().ok()
    }
}

impl FromOption for u32 {
    const WANTS: &'static str = "a whole number";

    fn from_option(value: &str) -> Option<Self> {
        value.parse().ok()
    }
}

impl FromOption for u64 {
    const WANTS: &'static str = "a whole number";

    fn from_option(value: &str) -> Option<Self> {
        value.parse().ok()
    }
}

impl FromOption for f64 {
    const WANTS: &'static str = "a number";

    fn from_option(value: &str) -> Option<Self> {
        Self::from_str(value).ok().filter(|number| number.is_finite())
    }
}

impl FromOption for Duration {
    const WANTS: &'static str = "a time such as `250ms`, `2s`, `5m` or `1h`";

    fn from_option(value: &str) -> Option<Self> {
        let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        let (number, unit) = value.split_at(digits);
        let ms_each = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(ms_each).map(Self::from_millis)
    }
}
