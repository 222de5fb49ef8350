//! How often a task may start: a [`Rate`], and the turns that it hands out.

use std::{fmt, str::FromStr, time::Duration};

use crate::{Error, Result};

mod bucket;

#[cfg(feature = "redis")]
pub(crate) use bucket::{AHEAD, HOLD};
pub(crate) use bucket::{Bucket, HORIZON, take};
pub use bucket::{Limit, Turn};

/// So many starts in a second, a minute or an hour, evenly spread: of `10/m` one every six seconds.
///
/// ```
/// use throng_queue::Rate;
///
/// const MAILS: Rate = Rate::per_minute(100);
/// assert_eq!("100/m".parse::<Rate>()?, MAILS);
/// # Ok::<_, throng_queue::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// In thousandths, of which Celery's floats need no more.
    thousandths: u64,
    unit: Unit,
    burst: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// So many in a second.
    ///
    /// # Panics
    /// When there are none, as in all of these.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        Self::new(count, Unit::Second)
    }

    /// So many in a minute.
    #[must_use]
    pub const fn per_minute(count: u32) -> Self {
        Self::new(count, Unit::Minute)
    }

    /// So many in an hour.
    #[must_use]
    pub const fn per_hour(count: u32) -> Self {
        Self::new(count, Unit::Hour)
    }

    /// Lets as many start at once after a pause; the rate over time stays. What starts in a tenth
    /// of a second unless set, and at least one: as in Celery, whose buckets hold one.
    #[must_use]
    pub const fn burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// Reads what Celery reads: `10/s`, `100/m`, `0.5/h`, and `10` for ten a second. None for an
    /// empty text and for zero, which is no limit.
    ///
    /// # Errors
    /// [`Error::Rate`] when it is none of these.
    pub fn read(text: &str) -> Result<Option<Self>> {
        let wrong = || Error::Rate(text.to_owned());
        let (count, unit) = match text.trim().split_once('/') {
            Some((count, "s" | "")) => (count, Unit::Second),
            Some((count, "m")) => (count, Unit::Minute),
            Some((count, "h")) => (count, Unit::Hour),
            Some(_) => return Err(wrong()),
            None if text.trim().is_empty() => return Ok(None),
            None => (text.trim(), Unit::Second),
        };
        let count: f64 = count.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=MOST).contains(&count) {
            return Err(wrong());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        let thousandths = (count * 1000.0).round() as u64;
        if thousandths == 0 {
            return if count == 0.0 { Ok(None) } else { Err(wrong()) };
        }
        Ok(Some(Self { thousandths, unit, burst: 0 }))
    }

    const fn new(count: u32, unit: Unit) -> Self {
        assert!(count > 0, "a rate of nothing would stop the task for ever");
        Self { thousandths: count as u64 * 1000, unit, burst: 0 }
    }

    /// Between two starts, in microseconds.
    pub(crate) fn interval(self) -> i64 {
        let unit = match self.unit {
            Unit::Second => SECOND,
            Unit::Minute => 60 * SECOND,
            Unit::Hour => 3600 * SECOND,
        };
        i64::try_from(unit * 1000 / self.thousandths).unwrap_or(i64::MAX).max(1)
    }

    /// How long what was not used stays usable, in microseconds.
    pub(crate) fn slack(self) -> i64 {
        let interval = self.interval();
        match self.burst {
            0 => (TENTH / interval - 1).max(0) * interval,
            burst => i64::from(burst - 1).saturating_mul(interval),
        }
    }

    /// The least time between two starts when none is saved up.
    #[must_use]
    pub fn spacing(self) -> Duration {
        Duration::from_micros(self.interval().unsigned_abs())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.thousandths / 1000, self.thousandths % 1000);
        write!(f, "{whole}")?;
        if rest > 0 {
            write!(f, "{}", format!(".{rest:03}").trim_end_matches('0'))?;
        }
        f.write_str(match self.unit {
            Unit::Second => "/s",
            Unit::Minute => "/m",
            Unit::Hour => "/h",
        })
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::read(text)?.ok_or_else(|| Error::Rate(text.to_owned()))
    }
}

const SECOND: u64 = 1_000_000;
const TENTH: i64 = 100_000;
/// What is faster than this is no limit.
const MOST: f64 = 1_000_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn celerys_rates_are_read_and_written() {
        for (text, spacing_us, written) in [
            ("10/s", 100_000, "10/s"),
            ("100/m", 600_000, "100/m"),
            ("5/h", 720_000_000, "5/h"),
            ("0.5/s", 2_000_000, "0.5/s"),
            ("7", 142_857, "7/s"),
            ("2.25/m", 26_666_666, "2.25/m"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.interval(), spacing_us, "{text}");
            assert_eq!(rate.to_string(), written);
        }
        for none in ["", "0", "0/m", " "] {
            assert_eq!(Rate::read(none).unwrap(), None, "{none:?}");
        }
        for wrong in ["fast", "10/d", "-1/s", "1e9/s", "0.0001/h", "nan/s", "/"] {
            let error = Rate::read(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_tenth_of_a_second_may_start_at_once() {
        assert_eq!(Rate::per_second(10).slack(), 0);
        assert_eq!(Rate::per_second(1000).slack(), 99_000);
        assert_eq!(Rate::per_minute(1).burst(3).slack(), 120_000_000);
    }
}
