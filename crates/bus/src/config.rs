//! How much channels hold and for how long.

use throng_core::Clock;

use crate::{Bus, Engine, Memory, Result, bus, engine};

/// How a bus behaves. Every engine keeps to it.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many messages a channel holds before it is full. Defaults to 100.
    pub capacity: usize,
    /// Capacities by name; the first pattern that matches decides. Defaults to none.
    pub capacities: Vec<Capacity>,
    /// After how many milliseconds a message that nobody took is dropped. Defaults to 60,000.
    pub expiry_ms: u64,
    /// After how many milliseconds a member leaves a group unless it was added again; a
    /// [`Subscription`](crate::Subscription) stays. Defaults to 86,400,000, which is a day.
    pub group_expiry_ms: u64,
    /// What tells the time. Defaults to the system's clock.
    pub clock: Clock,
}

/// The capacity of the channels whose names match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// A name in which `*` stands for any text: `http.response*`.
    pub pattern: String,
    /// How many messages such a channel holds.
    pub messages: usize,
}

impl Config {
    /// Opens the embedded engine with this configuration; see [`Bus::memory`].
    #[must_use]
    pub fn memory(self) -> Bus {
        let memory = Memory::new(&self);
        self.with_engine(memory)
    }

    /// Opens the engine that `url` names with this configuration; see [`Bus::open`].
    ///
    /// # Errors
    /// As [`Bus::open`].
    pub async fn open(self, url: &str) -> Result<Bus> {
        engine::open(url, self).await
    }

    /// Uses an engine of your own with this configuration; see [`Bus::with_engine`].
    #[must_use]
    pub fn with_engine(self, engine: impl Engine) -> Bus {
        bus::new(engine, self)
    }

    /// How many messages `channel` holds.
    #[must_use]
    pub fn capacity_of(&self, channel: &str) -> usize {
        let named = self.capacities.iter().find(|named| matches(&named.pattern, channel));
        named.map_or(self.capacity, |named| named.messages)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            capacity: 100,
            capacities: Vec::new(),
            expiry_ms: 60_000,
            group_expiry_ms: 86_400_000,
            clock: Clock::system(),
        }
    }
}

/// Whether `name` is `pattern`, where `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or("");
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let named = |pattern: &str, messages| Capacity { pattern: pattern.to_owned(), messages };
        let config = Config {
            capacities: vec![named("http.request", 200), named("http.*!*", 10), named("*", 5)],
            ..Config::default()
        };
        assert_eq!(config.capacity_of("http.request"), 200);
        assert_eq!(config.capacity_of("http.response.abc!def"), 10);
        assert_eq!(config.capacity_of("http.disconnect"), 5);
        assert!(matches("a*b*c", "abc") && matches("a*b*c", "axbxbxc"));
        assert!(!matches("a*b*c", "acb") && !matches("a*a", "a"));
        assert_eq!(Config::default().capacity_of("x"), 100);
    }
}
