//! Which settings no edge can run with, and what would be right.

use super::Config;
use crate::{Error, Result};

impl Config {
    /// Whether an edge can run with this. What is wrong is an [`Error::Setting`] that names the field;
    /// those of [`Health`](super::Health) and [`Policy`](crate::cache::Policy) begin with `health.` and
    /// `policy.`.
    pub fn check(&self) -> Result<()> {
        let Self { health, policy, .. } = self;
        for (setting, value, least, reason) in [
            ("cache_bytes", self.cache_bytes, 1, "a cache needs room; leave it out for 256 MiB"),
            ("max_connections", self.max_connections as u64, 1, SERVES_NOTHING),
            ("max_requests_per_server", self.max_requests_per_server as u64, 1, SERVES_NOTHING),
            ("max_fields", self.max_fields as u64, 1, SERVES_NOTHING),
            // hyper reads into a buffer that must hold a head at least.
            ("max_head_bytes", self.max_head_bytes as u64, 8_192, "it must be 8192 or more"),
            ("head_timeout_ms", self.head_timeout_ms, 1, NO_TIME),
            ("body_timeout_ms", self.body_timeout_ms, 1, NO_TIME),
            ("connect_timeout_ms", self.connect_timeout_ms, 1, NO_TIME),
            ("answer_timeout_ms", self.answer_timeout_ms, 1, NO_TIME),
            ("health.interval_ms", health.interval_ms, 1, NO_TIME),
            ("health.timeout_ms", health.timeout_ms, 1, NO_TIME),
            ("health.fall", health.fall.into(), 1, NEVER),
            ("health.rise", health.rise.into(), 1, NEVER),
            ("health.eject_after", health.eject_after.into(), 1, NEVER),
            ("policy.max_variants", policy.max_variants as u64, 1, "nothing could ever be stored"),
        ] {
            if value < least {
                return wrong(setting, value, reason);
            }
        }
        for (setting, percent) in [
            ("health.panic_percent", health.panic_percent),
            ("policy.ahead_percent", policy.ahead_percent),
        ] {
            if percent > 100 {
                return wrong(setting, percent, "it is a part of the whole: 0 to 100");
            }
        }
        if let Some(path) = health.path.as_ref().filter(|path| !path.starts_with('/')) {
            return wrong("health.path", path, "a path begins with `/`, such as `/health`");
        }
        for rule in &policy.rules {
            if !rule.pattern.starts_with(['/', '*']) {
                let reason = "a pattern is for the whole path, so it begins with `/` or `*`";
                return wrong("policy.rules", &rule.pattern, reason);
            }
        }
        let cannot_be_sent = |token: &str| {
            let is_text = token.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            token.is_empty() || token.trim() != token || !is_text
        };
        if self.purge_token.as_ref().is_some_and(|token| cannot_be_sent(token.reveal())) {
            let reason = "no purge can carry it; take letters, digits and signs";
            return wrong("purge_token", "(hidden)", reason);
        }
        Ok(())
    }
}

fn wrong(setting: &'static str, value: impl ToString, reason: &'static str) -> Result<()> {
    Err(Error::Setting { setting, value: value.to_string(), reason })
}

const SERVES_NOTHING: &str = "nothing could ever be served; leave it out for the default";
const NO_TIME: &str = "it is a time in milliseconds, 1 or more; leave it out for the default";
const NEVER: &str = "it counts up to that, so it is 1 or more";

#[cfg(test)]
mod tests {
    use throng_core::Secret;

    use super::*;
    use crate::cache::{Action, Rule};

    #[test]
    fn what_no_edge_can_run_with_is_named() {
        let token = Some(Secret::new("words of a token"));
        Config { purge_token: token, ..Config::default() }.check().unwrap();
        type Change = fn(&mut Config);
        let wrong: [(Change, &str); 9] = [
            (|config| config.max_connections = 0, "max_connections = 0"),
            (|config| config.max_head_bytes = 100, "max_head_bytes = 100"),
            (|config| config.health.rise = 0, "health.rise = 0"),
            (|config| config.health.path = Some("up".into()), "health.path = up"),
            (|config| config.policy.ahead_percent = 101, "policy.ahead_percent = 101"),
            (|config| config.policy.max_variants = 0, "policy.max_variants = 0"),
            (
                |config| {
                    config.policy.rules =
                        vec![Rule { pattern: "live/*".into(), action: Action::Bypass }];
                },
                "policy.rules = live/*",
            ),
            (|config| config.purge_token = Some(Secret::new("")), "purge_token = "),
            (|config| config.purge_token = Some(Secret::new("a\n")), "purge_token = "),
        ];
        for (change, wants) in wrong {
            let mut config = Config::default();
            change(&mut config);
            let said = config.check().unwrap_err().to_string();
            assert!(said.starts_with(&format!("cannot use {wants}")), "{said}");
        }
    }
}
