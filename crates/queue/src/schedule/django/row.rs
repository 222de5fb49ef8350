//! A row of `django_celery_beat_periodictask` with its schedule: when it is due, and its message.

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::{Crontab, Message};

/// A schedule that is enabled.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) task: String,
    pub(super) args: String,
    pub(super) kwargs: String,
    pub(super) headers: String,
    pub(super) queue: Option<String>,
    pub(super) exchange: Option<String>,
    pub(super) routing_key: Option<String>,
    pub(super) priority: Option<u8>,
    pub(super) expires_ms: Option<i64>,
    pub(super) expire_s: Option<i64>,
    pub(super) is_one_off: bool,
    pub(super) start_ms: Option<i64>,
    /// As the database wrote it, to see whether it is still that.
    pub(super) last_run: Option<String>,
    pub(super) last_run_ms: Option<i64>,
    pub(super) has_run: bool,
    pub(super) changed_ms: i64,
    /// Or why there is none that we can keep.
    pub(super) times: Result<Times, String>,
}

#[derive(Clone, Debug)]
pub(super) enum Times {
    Every(i64),
    Cron(Box<Crontab>, TimeZone),
    Clocked(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(i64),
    /// Not any more: it has expired, or was to run once and has.
    Over {
        is_spent: bool,
    },
}

impl Times {
    pub(super) fn every(every: i64, period: &str) -> Result<Self, String> {
        let ms = match period {
            "days" => every.saturating_mul(86_400_000),
            "hours" => every.saturating_mul(3_600_000),
            "minutes" => every.saturating_mul(60_000),
            "seconds" => every.saturating_mul(1000),
            "microseconds" => every / 1000,
            other => return Err(format!("there is no period `{other}`")),
        };
        Ok(Self::Every(ms.max(SHORTEST_MS)))
    }

    pub(super) fn cron(fields: [&str; 5], zone: &str) -> Result<Self, String> {
        // As Django's form takes them: `1, 15`.
        let spec = fields.map(|field| field.replace(' ', "")).join(" ");
        let crontab = Crontab::parse(&spec).map_err(|error| error.to_string())?;
        let zone = TimeZone::get(zone).map_err(|_| format!("there is no time zone `{zone}`"))?;
        Ok(Self::Cron(Box::new(crontab), zone))
    }
}

impl Row {
    pub(super) fn due(&self, now_ms: i64) -> Result<Due, String> {
        let times = self.times.as_ref().map_err(Clone::clone)?;
        if let Some(start_ms) = self.start_ms.filter(|start_ms| *start_ms > now_ms) {
            return Ok(Due::At(start_ms));
        }
        if self.expires_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            return Ok(Due::Over { is_spent: false });
        }
        if self.has_run && (self.is_one_off || matches!(times, Times::Clocked(_))) {
            return Ok(Due::Over { is_spent: true });
        }
        let next_ms = match times {
            Times::Clocked(at_ms) => Some(*at_ms),
            Times::Every(every_ms) => match (self.last_run_ms, self.start_ms) {
                (Some(last_ms), _) => last_ms.checked_add(*every_ms),
                (None, Some(start_ms)) => Some(start_ms),
                (None, None) => self.changed_ms.checked_add(*every_ms),
            },
            Times::Cron(crontab, zone) => {
                // The start itself may be one of its times.
                let start_ms = self.start_ms.map(|start_ms| start_ms - 1);
                let after_ms = match self.last_run_ms {
                    Some(last_ms) => last_ms.max(start_ms.unwrap_or(last_ms)),
                    None => start_ms.unwrap_or(self.changed_ms),
                };
                crontab.next(after_ms, zone)
            }
        };
        Ok(match next_ms {
            Some(at_ms) if at_ms <= now_ms => Due::Now,
            at_ms => Due::At(at_ms.unwrap_or(i64::MAX)),
        })
    }

    /// What it pushes; to `other` when it names no queue itself.
    pub(super) fn message(&self, now_ms: i64, other: &str) -> Result<Message, String> {
        let wrong = |what: &str, error: serde_json::Error| format!("its {what} are wrong: {error}");
        let list = if self.args.is_empty() { "[]" } else { &self.args };
        let args: Vec<Value> = serde_json::from_str(list).map_err(|error| wrong("args", error))?;
        let map = |what: &'static str, text: &str| {
            let text = if text.is_empty() { "{}" } else { text };
            serde_json::from_str::<Map<String, Value>>(text).map_err(|error| wrong(what, error))
        };
        let kwargs = map("kwargs", &self.kwargs)?;
        let mut message = Message::new(&self.task, ()).map_err(|error| error.to_string())?;
        message.set_arguments(args, kwargs).map_err(|error| error.to_string())?;
        for (name, value) in map("headers", &self.headers)? {
            // Whose task it is, is not theirs to say.
            if !["id", "root_id", "task"].contains(&name.as_str()) {
                message = message.header(&name, value);
            }
        }
        message = message.header("periodic_task_name", self.name.as_str());
        message = message.queue(match (&self.queue, &self.exchange, &self.routing_key) {
            (Some(queue), ..) => queue,
            // The exchange without a name leads to the queue that the key names.
            (None, None, Some(key)) => key,
            (None, Some(exchange), _) => {
                return Err(format!("it names exchange `{exchange}` and no queue"));
            }
            (None, None, None) => other,
        });
        if let Some(priority) = self.priority {
            message = message.priority(priority);
        }
        let expires = self.expire_s.map(|s| now_ms.saturating_add(s.saturating_mul(1000)));
        if let Some(at_ms) = self.expires_ms.or(expires) {
            message = message.expires_at(at_ms);
        }
        Ok(message)
    }

    pub(super) fn has_run(&mut self, at_ms: i64, text: String) {
        self.last_run = Some(text);
        self.last_run_ms = Some(at_ms);
        self.has_run = true;
    }
}

/// Nothing fires more often than this.
const SHORTEST_MS: i64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(times: Result<Times, String>) -> Row {
        Row {
            name: "nightly".into(),
            task: "shop.clean".into(),
            args: r#"[1, "two"]"#.into(),
            kwargs: r#"{"deep": true}"#.into(),
            headers: r#"{"tenant": 7, "id": "mine"}"#.into(),
            queue: None,
            exchange: None,
            routing_key: None,
            priority: None,
            expires_ms: None,
            expire_s: None,
            is_one_off: false,
            start_ms: None,
            last_run: None,
            last_run_ms: None,
            has_run: false,
            changed_ms: NOW,
            times,
        }
    }

    #[test]
    fn an_interval_counts_from_the_last_run_or_the_last_change() {
        let new = row(Times::every(10, "minutes"));
        assert_eq!(new.due(NOW), Ok(Due::At(NOW + 600_000)));
        assert_eq!(new.due(NOW + 600_000), Ok(Due::Now));
        let ran = Row { last_run_ms: Some(NOW + 60_000), ..new.clone() };
        assert_eq!(ran.due(NOW + 600_000), Ok(Due::At(NOW + 660_000)));
        assert_eq!(ran.due(NOW + 86_400_000), Ok(Due::Now), "however much was missed");
        let later = Row { start_ms: Some(NOW + 5000), ..new };
        assert_eq!(later.due(NOW), Ok(Due::At(NOW + 5000)));
        assert_eq!(later.due(NOW + 5000), Ok(Due::Now), "the first time at the start");
        assert!(row(Times::every(1, "fortnights")).due(NOW).is_err());
    }

    #[test]
    fn a_crontab_follows_its_own_zone() {
        // 2023-11-14T22:13:20Z is 07:13:20 on the 15th in Tokyo.
        let tokyo = row(Times::cron(["30", "7", "*", "*", "mon, wed"], "Asia/Tokyo"));
        let at = NOW + (16 * 60 + 40) * 1000;
        assert_eq!(tokyo.due(NOW), Ok(Due::At(at)));
        let ran = Row { last_run_ms: Some(at), ..tokyo.clone() };
        assert_eq!(ran.due(at), Ok(Due::At(at + 5 * 86_400_000)));
        let starts = Row { start_ms: Some(at), ..tokyo };
        assert_eq!(starts.due(at), Ok(Due::Now), "the start is one of its times");
        let reason = row(Times::cron(["61", "*", "*", "*", "*"], "UTC")).due(NOW).unwrap_err();
        assert!(reason.contains("minute `61`"), "{reason}");
        let reason = row(Times::cron(["*"; 5], "Mars/Phobos")).due(NOW).unwrap_err();
        assert_eq!(reason, "there is no time zone `Mars/Phobos`");
    }

    #[test]
    fn what_has_expired_or_was_to_run_once_is_over() {
        let expired = Row { expires_ms: Some(NOW), ..row(Times::every(1, "seconds")) };
        assert_eq!(expired.due(NOW), Ok(Due::Over { is_spent: false }));
        let mut once = Row { is_one_off: true, ..row(Ok(Times::Clocked(NOW + 7))) };
        assert_eq!(once.due(NOW), Ok(Due::At(NOW + 7)));
        assert_eq!(once.due(NOW + 7), Ok(Due::Now));
        once.has_run(NOW + 7, "then".into());
        assert_eq!(once.due(NOW + 8), Ok(Due::Over { is_spent: true }));
    }

    #[test]
    fn a_message_says_what_the_row_says() {
        let row = Row { priority: Some(200), expire_s: Some(60), ..row(Ok(Times::Every(1000))) };
        let message = row.message(NOW, "celery").unwrap();
        let body = message.read_body().unwrap();
        assert_eq!(Value::from(body.args), serde_json::json!([1, "two"]));
        assert_eq!(Value::from(body.kwargs), serde_json::json!({"deep": true}));
        assert_eq!((message.name(), message.queue_name()), ("shop.clean", "celery"));
        assert_eq!(message.header_value("tenant"), Some(&Value::from(7)));
        assert_eq!(message.header_value("periodic_task_name"), Some(&Value::from("nightly")));
        assert_ne!(message.id().as_str(), "mine");
        assert_eq!((message.priority_level(), message.expires_ms()), (9, Some(NOW + 60_000)));
        let named = Row { queue: Some("mail".into()), exchange: Some("x".into()), ..row.clone() };
        assert_eq!(named.message(NOW, "celery").unwrap().queue_name(), "mail");
        let keyed = Row { routing_key: Some("slow".into()), ..row.clone() };
        assert_eq!(keyed.message(NOW, "celery").unwrap().queue_name(), "slow");
        let reason = Row { exchange: Some("x".into()), ..row.clone() }.message(NOW, "celery");
        assert_eq!(reason.unwrap_err(), "it names exchange `x` and no queue");
        let reason = Row { args: "{}".into(), ..row }.message(NOW, "celery").unwrap_err();
        assert!(reason.starts_with("its args are wrong"), "{reason}");
    }

    const NOW: i64 = 1_700_000_000_000;
}
