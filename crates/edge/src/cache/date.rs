//! HTTP dates as they come: in any of the three forms of RFC 9110, whatever the case of their names
//! and whatever weekday they claim.

use http::{HeaderMap, HeaderName};

/// A date field in milliseconds since 1970; `None` when it is missing or no date.
pub(super) fn date_ms(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    unix_ms(headers.get(name)?.to_str().ok()?)
}

/// Milliseconds since 1970, or `None` for what has none of the three forms.
pub(super) fn unix_ms(text: &str) -> Option<i64> {
    // `Sun Nov  6 08:49:37 1994`
    if let [_, _, _, b' ', _, _, _, b' ', _, _, b' ', .., b' ', _, _, _, _] = text.as_bytes()
        && text.len() == 24
    {
        return join(
            text.get(20..)?,
            text.get(4..7)?,
            text.get(8..10)?.trim_start(),
            text.get(11..19)?,
        );
    }
    let (weekday, rest) = text.split_once(", ")?;
    let is_word = weekday.len() >= 3 && weekday.bytes().all(|byte| byte.is_ascii_alphabetic());
    let (date, zone) = rest.split_at_checked(rest.len().checked_sub(4)?)?;
    if !is_word || !zone.eq_ignore_ascii_case(" gmt") {
        return None;
    }
    // `06 Nov 1994 08:49:37`, or `06-Nov-94 08:49:37`
    let (year, separator) = match date.len() {
        20 => (date.get(7..11)?, b' '),
        18 => (date.get(7..9)?, b'-'),
        _ => return None,
    };
    let bytes = date.as_bytes();
    let is_form = bytes[2] == separator && bytes[6] == separator && bytes[7 + year.len()] == b' ';
    let time = date.get(8 + year.len()..)?;
    is_form.then(|| join(year, date.get(3..6)?, date.get(..2)?, time))?
}

/// The form in which dates are sent: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn text(unix_ms: i64) -> String {
    let seconds = unix_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years from March again, as below.
    let from_march = days + 719_468;
    let (era, of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][days.rem_euclid(7) as usize];
    let name = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        [month as usize];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

fn join(year: &str, month: &str, day: &str, time: &str) -> Option<i64> {
    let month = self::month(month)?;
    let year = match (number(year)?, year.len()) {
        (year, 4) => year,
        // RFC 850 has two digits; more than fifty years ahead means the past.
        (year, 2) if year > 70 => year + 1900,
        (year, 2) => year + 2000,
        _ => return None,
    };
    let mut parts = time.split(':');
    let mut part = |most| {
        let text = parts.next().filter(|text| text.len() == 2)?;
        number(text).filter(|number| *number <= most)
    };
    let (hour, minute, second) = (part(23)?, part(59)?, part(60)?);
    let day = number(day).filter(|number| (1..=31).contains(number))?;
    if parts.next().is_some() {
        return None;
    }
    let days = days_since_1970(year, month, day);
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

fn month(word: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let at = MONTHS.iter().position(|month| word.eq_ignore_ascii_case(month))?;
    Some(at as i64 + 1)
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Counts years from March, so that the leap day is the last of its year.
pub(crate) fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_mean_the_same() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 08:49:37 gmt",
        ] {
            assert_eq!(unix_ms(text), Some(784_111_777_000), "{text}");
        }
        assert_eq!(unix_ms("Tue, 29 Feb 2028 00:00:00 GMT"), Some(1_835_395_200_000));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "0",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 02:01 GMT",
            "Thu, 18 Aug 2050 25:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, +8 Aug 2050 02:01:18 GMT",
            "Thü, 18 Aug 2050 02:01:18 GMT",
            " GMT",
            "é GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "Thu, 99 Aug 2050 02:01:18 GMT",
        ] {
            assert_eq!(unix_ms(text), None, "{text}");
        }
    }

    #[test]
    fn every_date_that_another_library_writes_is_read_back() {
        for days in (0..60_000_u64).step_by(13) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(days * 86_400 + days);
            let text = httpdate::fmt_http_date(time);
            assert_eq!(unix_ms(&text), Some((days * 86_400 + days) as i64 * 1000), "{text}");
            assert_eq!(super::text((days * 86_400 + days) as i64 * 1000), text);
        }
    }
}
