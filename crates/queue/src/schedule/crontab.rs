//! Five cron fields, read exactly as Celery reads them, and when they come true in a time zone.
//!
//! Minute, hour, day of month, month, day of week (0 is Sunday, 6 is Saturday). A field is `*`,
//! a number or name, a range, each range or star with a step, and lists of these. A range may wrap
//! (`fri-mon`, `22-2`). Unlike in Unix cron, a day must match both day fields.
//!
//! Where the clocks change: a crontab whose hour is `*` follows the real hours, so it fires in both
//! passes of a repeated hour and not at all in a skipped one. Any other fires once a day at each of
//! its times: in the first pass of a repeated hour, and when its time is skipped, at the moment at
//! which the clocks went forward.

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, time},
    tz::{AmbiguousOffset, TimeZone},
};

use crate::{Error, Result};

/// When something repeats, by the clock on a wall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crontab {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

impl Crontab {
    /// Reads five fields between blanks.
    ///
    /// # Errors
    /// [`Error::Schedule`] naming the field that is wrong, or when no day ever matches.
    pub fn parse(spec: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Schedule { spec: spec.to_owned(), reason };
        let parts: Vec<&str> = spec.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(wrong(format!("it has {} fields, not 5", parts.len())));
        };
        let read = |field: Field, text: &str| {
            field.read(text).map_err(|reason| wrong(format!("{} `{text}`: {reason}", field.name)))
        };
        let crontab = Self {
            minutes: read(MINUTE, minute)?,
            hours: read(HOUR, hour)?,
            days: read(DAY, day)?,
            months: read(MONTH, month)?,
            weekdays: read(WEEKDAY, weekday)?,
        };
        let epoch = jiff::civil::date(2000, 1, 1);
        if crontab.dates(epoch).next().is_none() {
            return Err(wrong("no day ever matches it".into()));
        }
        Ok(crontab)
    }

    /// The first time after `after_ms` at which it comes true in `zone`.
    #[must_use]
    pub fn next(&self, after_ms: i64, zone: &TimeZone) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_ms).ok()?;
        // The evening before, because a change of the clocks can move a time over midnight.
        let from = after.to_zoned(zone.clone()).date().yesterday().ok()?;
        self.dates(from).find_map(|date| {
            let times = self.times(date, zone);
            times.into_iter().find(|time| *time > after).map(Timestamp::as_millisecond)
        })
    }

    /// The days that match, from `from` on. The Gregorian calendar repeats after 400 years, and
    /// every pair of day and weekday comes within 40.
    fn dates(&self, from: Date) -> impl Iterator<Item = Date> + '_ {
        from.series(1.day()).take(41 * 366).filter(|date| {
            has(self.months, date.month())
                && has(self.days, date.day())
                && has(self.weekdays, date.weekday().to_sunday_zero_offset())
        })
    }

    /// The moments of one day, in order.
    fn times(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let is_hourly = self.hours == HOUR.all();
        let mut times = Vec::new();
        for hour in (0..24).filter(|hour| has(self.hours, *hour)) {
            for minute in (0..60).filter(|minute| has(self.minutes, *minute)) {
                let wall = date.to_datetime(time(hour, minute, 0, 0));
                let ambiguous = zone.to_ambiguous_timestamp(wall);
                let moments = match ambiguous.offset() {
                    AmbiguousOffset::Unambiguous { offset } => {
                        [offset.to_timestamp(wall).ok(), None]
                    }
                    AmbiguousOffset::Fold { before, after } => {
                        let second = is_hourly.then(|| after.to_timestamp(wall).ok()).flatten();
                        [before.to_timestamp(wall).ok(), second]
                    }
                    AmbiguousOffset::Gap { .. } if is_hourly => [None, None],
                    // Read with the offset before the change, a skipped time lies after it; with
                    // the offset after the change, before it. The change is in between.
                    AmbiguousOffset::Gap { after, .. } => {
                        let before = after.to_timestamp(wall).ok();
                        [
                            before
                                .and_then(|before| zone.following(before).next())
                                .map(|change| change.timestamp()),
                            None,
                        ]
                    }
                };
                times.extend(moments.into_iter().flatten());
            }
        }
        times.sort_unstable();
        times.dedup();
        times
    }
}

#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
}

impl Field {
    fn read(self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let values: Vec<u32> = match (range, range.split_once('-')) {
            ("*", _) => (self.least..=self.most).collect(),
            (_, Some((from, to))) => {
                let (from, to) = (self.number(from)?, self.number(to)?);
                if to < from {
                    (from..=self.most).chain(self.least..=to).collect()
                } else {
                    (from..=to).collect()
                }
            }
            // As in Celery, a step needs a range or a star to walk over.
            (_, None) if step.is_some() => {
                return Err(format!("`{part}` has a step but no range"));
            }
            (_, None) => vec![self.number(range)?],
        };
        let step = match step {
            None => 1,
            Some(step) => match digits(step) {
                Some(step @ 1..) => step as usize,
                _ => return Err(format!("`{step}` is no step")),
            },
        };
        Ok(values.into_iter().step_by(step).fold(0, |set, value| set | 1 << value))
    }

    fn number(self, text: &str) -> Result<u32, String> {
        let named = || {
            let start = text.get(..3)?.to_ascii_lowercase();
            let month = MONTHS.iter().position(|name| *name == start).map(|at| at + 1);
            let found = month.or_else(|| WEEKDAYS.iter().position(|name| *name == start));
            found.and_then(|at| u32::try_from(at).ok())
        };
        let number = digits(text).or_else(named);
        match number {
            None => Err(format!("`{text}` is no number and no name")),
            Some(number) if number < self.least || number > self.most => {
                Err(format!("{number} is not from {} to {}", self.least, self.most))
            }
            Some(number) => Ok(number),
        }
    }

    fn all(self) -> u64 {
        (self.least..=self.most).fold(0, |set, value| set | 1 << value)
    }
}

fn digits(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set >> value & 1 == 1)
}

const MINUTE: Field = Field { name: "minute", least: 0, most: 59 };
const HOUR: Field = Field { name: "hour", least: 0, most: 23 };
const DAY: Field = Field { name: "day of month", least: 1, most: 31 };
const MONTH: Field = Field { name: "month", least: 1, most: 12 };
const WEEKDAY: Field = Field { name: "day of week", least: 0, most: 6 };
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The next `count` times, as text in the zone.
    fn times(spec: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let crontab = Crontab::parse(spec).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut last_ms = after.parse::<Timestamp>().unwrap().as_millisecond();
        let mut next = || {
            last_ms = crontab.next(last_ms, &zone).unwrap();
            let time = Timestamp::from_millisecond(last_ms).unwrap().to_zoned(zone.clone());
            time.strftime("%a %d %b %H:%M %z").to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    fn set(field: Field, text: &str) -> Vec<u32> {
        let set = field.read(text).unwrap();
        (0..64).filter(|value| set >> value & 1 == 1).collect()
    }

    #[test]
    fn fields_are_read_as_celery_reads_them() {
        assert_eq!(set(MINUTE, "*/15"), [0, 15, 30, 45]);
        assert_eq!(set(DAY, "*/10"), [1, 11, 21, 31]);
        assert_eq!(set(MONTH, "2-12/2"), [2, 4, 6, 8, 10, 12]);
        assert_eq!(set(WEEKDAY, "fri-mon"), [0, 1, 5, 6]);
        assert_eq!(set(HOUR, "22-2/2,5"), [0, 2, 5, 22]);
        assert_eq!(set(WEEKDAY, "Sunday,TUES"), [0, 2]);
        assert_eq!(set(MONTH, "january,feb"), [1, 2]);
        for (field, wrong) in [
            (WEEKDAY, "7"),
            (MINUTE, "60"),
            (DAY, "0"),
            (MINUTE, "5/10"),
            (MINUTE, "*/0"),
            (MINUTE, "*/"),
            (HOUR, "1,,2"),
            (HOUR, "-1"),
            (MONTH, "smarch"),
            (MINUTE, ""),
        ] {
            assert!(field.read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_crontab_that_is_wrong_says_where() {
        let reason = |spec| Crontab::parse(spec).unwrap_err().to_string();
        assert!(reason("* * * *").contains("4 fields"));
        assert!(reason("* 25 * * *").contains("hour `25`: 25 is not from 0 to 23"));
        assert!(reason("0 0 31 2 *").contains("no day ever matches"));
    }

    #[test]
    fn both_day_fields_must_match() {
        let fridays = times("0 12 13 * fri", "UTC", "2026-01-01T00:00:00Z", 3);
        assert_eq!(
            fridays,
            ["Fri 13 Feb 12:00 +0000", "Fri 13 Mar 12:00 +0000", "Fri 13 Nov 12:00 +0000"]
        );
        let leap = times("0 0 29 2 sun", "UTC", "2026-01-01T00:00:00Z", 1);
        assert_eq!(leap, ["Sun 29 Feb 00:00 +0000"]); // In 2032.
    }

    #[test]
    fn a_skipped_time_fires_when_the_clocks_go_forward() {
        let daily = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(
            daily,
            ["Sat 28 Mar 02:30 +0100", "Sun 29 Mar 03:00 +0200", "Mon 30 Mar 02:30 +0200"]
        );
        let hourly = times("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3);
        assert_eq!(
            hourly,
            ["Sun 29 Mar 01:30 +0100", "Sun 29 Mar 03:30 +0200", "Sun 29 Mar 04:30 +0200"]
        );
    }

    #[test]
    fn a_repeated_time_fires_once_unless_it_is_every_hour() {
        let daily = times("30 2 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z", 2);
        assert_eq!(daily, ["Sun 25 Oct 02:30 +0200", "Mon 26 Oct 02:30 +0100"]);
        let hourly = times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3);
        assert_eq!(
            hourly,
            ["Sun 25 Oct 02:00 +0200", "Sun 25 Oct 02:00 +0100", "Sun 25 Oct 03:00 +0100"]
        );
    }

    #[test]
    fn a_zone_that_skips_midnight_still_has_its_day() {
        let daily = times("0 0 * * *", "America/Santiago", "2026-09-05T05:00:00Z", 2);
        assert_eq!(daily, ["Sun 06 Sep 01:00 -0300", "Mon 07 Sep 00:00 -0300"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-*/, 0-9a-z]{0,20}") {
            let _ = Crontab::parse(&text);
        }

        #[test]
        fn times_rise_and_match_the_wall_clock(
            minute in 0u32..60, every in 1u32..24, start in 1_600_000_000_000i64..1_900_000_000_000,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York",
                "Asia/Kolkata", "Australia/Lord_Howe"]),
        ) {
            let crontab = Crontab::parse(&format!("{minute} */{every} * * *")).unwrap();
            let zone = TimeZone::get(zone).unwrap();
            let mut last_ms = start;
            for _ in 0..30 {
                let next_ms = crontab.next(last_ms, &zone).unwrap();
                prop_assert!(next_ms > last_ms && next_ms - last_ms <= 26 * 3_600_000);
                let wall = Timestamp::from_millisecond(next_ms).unwrap().to_zoned(zone.clone());
                let is_change = zone.preceding(wall.timestamp() + 1.second()).next()
                    .is_some_and(|change| change.timestamp() == wall.timestamp());
                let fits = wall.minute() as u32 == minute && (wall.hour() as u32).is_multiple_of(every);
                prop_assert!(fits || is_change);
                // Nothing between the two matches either.
                prop_assert_eq!(crontab.next(next_ms - 1, &zone), Some(next_ms));
                last_ms = next_ms;
            }
        }
    }
}
