//! How numbers, days and money read on a page.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// The price of a seat: `Free`, `€35` or `€12.50`.
pub(crate) fn price(cents: i64, currency: &str) -> String {
    match (cents, cents % 100) {
        (0, _) => "Free".into(),
        (_, 0) => format!("{}{}", sign(currency), thousands(cents / 100)),
        _ => money(cents, currency),
    }
}

/// An amount on a bill: always with cents.
pub(crate) fn money(cents: i64, currency: &str) -> String {
    format!("{}{}.{:02}", sign(currency), thousands(cents / 100), cents % 100)
}

fn sign(currency: &str) -> String {
    match currency {
        "EUR" => "€".into(),
        "USD" => "$".into(),
        "GBP" => "£".into(),
        other => format!("{other} "),
    }
}

/// `1 seat`, `2,500 seats`.
pub(crate) fn count(number: i64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// A number with commas between thousands.
pub(crate) fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + 4);
    if number < 0 {
        text.push('−');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The days of an event: `Sat 21 Nov 2026`, `21–23 Nov 2026`, `30 Nov – 2 Dec 2026`.
pub(crate) fn days(start: &str, end: &str) -> String {
    let Ok(first) = start.parse::<Date>() else { return start.to_owned() };
    let last = end.parse::<Date>().unwrap_or(first);
    if last <= first {
        return first.strftime("%a %-d %b %Y").to_string();
    }
    let until = last.strftime("%-d %b %Y");
    if (first.year(), first.month()) == (last.year(), last.month()) {
        format!("{}–{until}", first.day())
    } else if first.year() == last.year() {
        format!("{} – {until}", first.strftime("%-d %b"))
    } else {
        format!("{} – {until}", first.strftime("%-d %b %Y"))
    }
}

/// The three lines of a calendar leaf: `NOV`, `21`, `2026`.
pub(crate) fn leaf(day: &str) -> (String, String, String) {
    match day.parse::<Date>() {
        Ok(date) => {
            (date.strftime("%b").to_string(), date.day().to_string(), date.year().to_string())
        }
        Err(_) => (String::new(), "?".into(), day.to_owned()),
    }
}

/// A moment, in UTC because the server does not know where its reader sits.
pub(crate) fn moment(at_ms: i64) -> String {
    format(at_ms, "%-d %b %Y, %H:%M UTC")
}

/// The month of a moment, when the day does not matter.
pub(crate) fn month(at_ms: i64) -> String {
    format(at_ms, "%B %Y")
}

/// The hour and minute of a moment.
pub(crate) fn hour(at_ms: i64) -> String {
    format(at_ms, "%H:%M UTC")
}

/// A moment as HTML's `datetime` wants it.
pub(crate) fn stamp(at_ms: i64) -> String {
    format(at_ms, "%Y-%m-%dT%H:%M:%SZ")
}

/// The day of a moment, `YYYY-MM-DD`.
pub(crate) fn day(at_ms: i64) -> String {
    format(at_ms, "%Y-%m-%d")
}

fn format(at_ms: i64, pattern: &str) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.to_zoned(TimeZone::UTC).strftime(pattern).to_string()
}

/// `9:05`: what is left of a countdown, never below zero.
pub(crate) fn countdown(left_ms: i64) -> String {
    let seconds = left_ms.max(0) / 1_000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_read_like_prices() {
        assert_eq!(price(0, "EUR"), "Free");
        assert_eq!(price(3_500, "EUR"), "€35");
        assert_eq!(price(12_345_650, "USD"), "$123,456.50");
        assert_eq!(money(5, "CHF"), "CHF 0.05");
    }

    #[test]
    fn days_say_only_what_differs() {
        assert_eq!(days("2026-11-21", "2026-11-21"), "Sat 21 Nov 2026");
        assert_eq!(days("2026-11-21", "2026-11-23"), "21–23 Nov 2026");
        assert_eq!(days("2026-11-30", "2026-12-02"), "30 Nov – 2 Dec 2026");
        assert_eq!(days("2026-12-30", "2027-01-02"), "30 Dec 2026 – 2 Jan 2027");
        assert_eq!(days("soon", ""), "soon");
    }

    #[test]
    fn counts_agree_with_their_nouns() {
        assert_eq!(count(1, "seat", "seats"), "1 seat");
        assert_eq!(count(1_234_567, "seat", "seats"), "1,234,567 seats");
        assert_eq!(countdown(605_900), "10:05");
        assert_eq!(countdown(-5), "0:00");
    }
}
