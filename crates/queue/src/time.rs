//! Times as Celery writes them: ISO 8601, microseconds, UTC.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Writes milliseconds since 1970 as `2026-11-21T09:50:44.000000+00:00`.
pub(crate) fn to_iso(unix_ms: i64) -> String {
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

/// Reads what any Celery writes: with an offset, with `Z`, or without either, which is UTC.
pub(crate) fn from_iso(text: &str) -> Option<i64> {
    let zoned = text.parse::<Timestamp>().ok();
    let naive = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    zoned.or_else(|| naive().map(|zoned| zoned.timestamp())).map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_celery_time_is_read() {
        let ms = 1_700_000_000_123;
        assert_eq!(to_iso(ms), "2023-11-14T22:13:20.123000+00:00");
        for text in [
            "2023-11-14T22:13:20.123000+00:00",
            "2023-11-14T22:13:20.123000Z",
            "2023-11-14T22:13:20.123",
            "2023-11-14T23:13:20.123000+01:00",
        ] {
            assert_eq!(from_iso(text), Some(ms), "{text}");
        }
        assert_eq!(from_iso("tomorrow"), None);
    }
}
