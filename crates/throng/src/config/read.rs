//! Reads the layers of the config (defaults, file, environment) into checked settings.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use throng_core::EngineUrl;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigError, Source,
    keys::{ENV_PREFIX, KEYS, Key, Kind},
    suggest,
};

/// Every key with its value as text and where that came from. Values have been checked.
#[derive(Clone)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Setting>,
}

/// One checked value. Lists are joined by commas.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) text: String,
    pub(crate) source: Source,
}

impl Settings {
    /// What holds when nothing is set.
    pub(crate) fn defaults() -> Self {
        let setting = |key: &Key| Setting { text: key.default.to_owned(), source: Source::Default };
        Self { values: KEYS.iter().map(|key| (key.name, setting(key))).collect() }
    }

    /// Reads `text`, the content of `path`, over what holds so far.
    pub(crate) fn read_toml(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let at = |span: std::ops::Range<usize>| Source::File {
            path: path.to_owned(),
            line: line_of(text, span.start),
        };
        let table = DeTable::parse(text).map_err(|error| ConfigError::NotToml {
            at: at(error.span().unwrap_or(0..0)),
            reason: error.message().replace('\n', "; "),
        })?;
        for (name, value) in table.get_ref() {
            let Some(section) = sections().find(|section| *section == name.get_ref().as_ref())
            else {
                self.put_toml(name.get_ref(), value, at(name.span()))?;
                continue;
            };
            let DeValue::Table(inner) = value.get_ref() else {
                return Err(ConfigError::WrongValue {
                    at: at(value.span()),
                    key: section.to_owned(),
                    value: show(value.get_ref()),
                    wants: format!("a section: `[{section}]` and its keys below it"),
                });
            };
            for (key, value) in inner {
                self.put_toml(&format!("{section}.{}", key.get_ref()), value, at(key.span()))?;
            }
        }
        Ok(())
    }

    /// Reads `THRONG_…` variables over what holds so far. Empty ones count as not set.
    pub(crate) fn read_env(
        &mut self,
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in vars {
            let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else {
                continue;
            };
            if value.is_empty() || NOT_KEYS.iter().any(|other| name.starts_with(other)) {
                continue;
            }
            let at = Source::Env(name.to_owned());
            let Some(key) = KEYS.iter().find(|key| key.env_name() == name) else {
                let known: Vec<String> = KEYS.iter().map(Key::env_name).collect();
                let meant = suggest::nearest(name, known.iter().map(String::as_str));
                let meant = meant.map(str::to_owned);
                return Err(ConfigError::UnknownKey { at, key: name.to_owned(), meant });
            };
            let text = value.into_string().map_err(|_| wrong(key, &at, "not UTF-8"))?;
            self.put(key, text, at)?;
        }
        Ok(())
    }

    /// The value of `name`, which must be a key of the table.
    pub(crate) fn setting(&self, name: &str) -> &Setting {
        self.values.get(name).expect("every name asked for is in KEYS; a test asks for them all")
    }

    /// Sets what has been worked out, such as `{data}` in a default.
    pub(crate) fn replace(&mut self, name: &str, text: String) {
        if let Some(setting) = self.values.get_mut(name) {
            setting.text = text;
        }
    }

    /// Sets what this program made itself.
    pub(crate) fn made(&mut self, name: &'static str, text: String, source: Source) {
        self.values.insert(name, Setting { text, source });
    }

    fn put_toml(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        at: Source,
    ) -> Result<(), ConfigError> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let meant = suggest::nearest(name, KEYS.iter().map(|key| key.name).chain(sections()));
            let meant = meant.map(str::to_owned);
            return Err(ConfigError::UnknownKey { at, key: name.to_owned(), meant });
        };
        let text = match (key.kind, value.get_ref()) {
            (Kind::Flag, DeValue::Boolean(flag)) => flag.to_string(),
            (Kind::Count { .. }, DeValue::Integer(number)) if number.radix() == 10 => {
                number.as_str().to_owned()
            }
            (Kind::List | Kind::Secrets, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| item.get_ref().as_str());
                let texts = texts.collect::<Option<Vec<_>>>();
                let texts = texts.filter(|texts| !texts.iter().any(|text| text.contains(',')));
                texts.ok_or_else(|| wrong(key, &at, &show(value.get_ref())))?.join(",")
            }
            (Kind::Flag | Kind::Count { .. } | Kind::List | Kind::Secrets, other) => {
                return Err(wrong(key, &at, &show(other)));
            }
            (_, DeValue::String(text)) => text.clone().into_owned(),
            (_, other) => return Err(wrong(key, &at, &show(other))),
        };
        self.put(key, text, at)
    }

    fn put(&mut self, key: &Key, text: String, source: Source) -> Result<(), ConfigError> {
        let is_right = match key.kind {
            Kind::Text | Kind::Secret | Kind::Secrets | Kind::List => true,
            Kind::Path => !text.is_empty() && !text.contains('\0'),
            Kind::Url => match EngineUrl::parse(&text) {
                Ok(_) => true,
                Err(error) => {
                    return Err(ConfigError::WrongValue {
                        at: source,
                        key: key.name.to_owned(),
                        value: "not a URL".to_owned(),
                        wants: format!("{}: {error}", key.kind.wants()),
                    });
                }
            },
            Kind::Address => {
                text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
            }
            Kind::Flag => text == "true" || text == "false",
            Kind::Count { min, max } => {
                text.parse::<u64>().is_ok_and(|count| (min..=max).contains(&count))
            }
            Kind::Choice(words) => words.contains(&text.as_str()),
        };
        if !is_right {
            return Err(wrong(key, &source, &format!("`{text}`")));
        }
        self.values.insert(key.name, Setting { text, source });
        Ok(())
    }
}

/// Holds secrets as they are: what prints them goes through `config::print`.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings")
    }
}

/// The file to read: the one that was named, or `throng.toml` if it is there.
pub(crate) fn find_file(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from("throng.toml")).filter(|path| path.exists()))
}

fn wrong(key: &Key, at: &Source, value: &str) -> ConfigError {
    ConfigError::WrongValue {
        at: at.clone(),
        key: key.name.to_owned(),
        value: if key.is_secret() { "not right".to_owned() } else { value.to_owned() },
        wants: key.kind.wants(),
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.section().0).filter(|section| !section.is_empty())
}

fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text `{text:?}`"),
        DeValue::Integer(number) => format!("the number `{number}`"),
        DeValue::Float(number) => format!("the number `{number}`"),
        DeValue::Boolean(flag) => format!("`{flag}`"),
        DeValue::Datetime(time) => format!("the time `{time}`"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Variables that begin like a key and are none: where the config is, the hand-over between two
/// processes, and what the tests are told.
const NOT_KEYS: &[&str] = &["THRONG_CONFIG", "THRONG_HANDOVER", "THRONG_TEST_", "THRONG_BENCH_"];
