//! Schedules: tasks that push themselves, each time once, whichever worker lives.

use std::{fmt, sync::Arc, time::Duration};

use jiff::tz::TimeZone;

use crate::{Error, Message, Result};

mod crontab;
pub(crate) mod django;
mod leader;

pub use crontab::Crontab;
pub use django::DjangoBeat;
pub(crate) use leader::lead;

/// Pushes a task at set times. Every worker may carry the same schedules: one of them leads.
///
/// The time of the last firing is kept in the database and moves in the same commit in which the
/// task is pushed, so that a time fires once over restarts and changes of leader.
#[derive(Clone)]
pub struct Schedule {
    name: String,
    times: Times,
    make: Arc<dyn Fn() -> Message + Send + Sync>,
    catch_up: Duration,
}

impl Schedule {
    /// Fires when the five fields of `spec` come true in the time zone `zone`, such as
    /// `Europe/Berlin` or `UTC`. See [`Crontab`] for fields and for changes of the clock.
    ///
    /// # Errors
    /// [`Error::Schedule`] saying what is wrong with the fields or the zone.
    pub fn cron(
        name: impl Into<String>,
        spec: &str,
        zone: &str,
        make: impl Fn() -> Message + Send + Sync + 'static,
    ) -> Result<Self> {
        let crontab = Crontab::parse(spec)?;
        let zone = TimeZone::get(zone).map_err(|_| Error::Schedule {
            spec: spec.to_owned(),
            reason: format!("there is no time zone `{zone}`"),
        })?;
        Self::new(name, Times::Cron(Box::new(crontab), zone), Arc::new(make))
    }

    /// Fires every `interval`, counted from 1970 so that restarts do not shift it.
    ///
    /// # Errors
    /// [`Error::Schedule`] when the interval is under a second.
    pub fn every(
        name: impl Into<String>,
        interval: Duration,
        make: impl Fn() -> Message + Send + Sync + 'static,
    ) -> Result<Self> {
        let every_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        if every_ms < 1000 {
            let reason = "an interval has at least one second".into();
            return Err(Error::Schedule { spec: format!("every {interval:?}"), reason });
        }
        Self::new(name, Times::Every(every_ms), Arc::new(make))
    }

    fn new(
        name: impl Into<String>,
        times: Times,
        make: Arc<dyn Fn() -> Message + Send + Sync>,
    ) -> Result<Self> {
        let name = name.into();
        let length = name.chars().count();
        if length == 0 || length > 191 {
            return Err(Error::Name { what: "a schedule's name", length, max: 191 });
        }
        Ok(Self { name, times, make, catch_up: Duration::from_secs(3600) })
    }

    /// After a time in which no worker ran, fires what was missed in this long; what is older is
    /// skipped with one log line. An hour unless set.
    #[must_use]
    pub fn catch_up(self, catch_up: Duration) -> Self {
        Self { catch_up, ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first time after `after_ms` at which it fires.
    #[must_use]
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        match &self.times {
            Times::Cron(crontab, zone) => crontab.next(after_ms, zone),
            Times::Every(every_ms) => {
                after_ms.div_euclid(*every_ms).checked_add(1)?.checked_mul(*every_ms)
            }
        }
    }

    fn message(&self, at_ms: i64) -> Message {
        let fire = format!("{}@{}", self.name, crate::time::to_iso(at_ms));
        (self.make)().header(FIRE, fire)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").field("name", &self.name).field("times", &self.times).finish()
    }
}

#[derive(Clone, Debug)]
enum Times {
    Cron(Box<Crontab>, TimeZone),
    Every(i64),
}

/// The header of a task that a schedule pushed: schedule and time.
const FIRE: &str = "throng_fire";
