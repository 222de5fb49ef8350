//! Words on a ticket: dates, prices, and lines that fit.

use jiff::civil::Date;
use ttf_parser::Face;

use crate::models::Event;

/// `Thu 7 May 2026`, `7–9 May 2026`, `30 May – 2 June 2026` or `30 December 2026 – 2 January 2027`.
#[must_use]
pub fn days(starts_on: &str, ends_on: &str) -> String {
    let (Ok(first), Ok(last)) = (starts_on.parse::<Date>(), ends_on.parse::<Date>()) else {
        return format!("{starts_on} – {ends_on}");
    };
    let long = last.strftime("%-d %B %Y");
    if first == last {
        return first.strftime("%a %-d %B %Y").to_string();
    }
    if first.year() != last.year() {
        return format!("{} – {long}", first.strftime("%-d %B %Y"));
    }
    if first.month() != last.month() {
        return format!("{} – {long}", first.strftime("%-d %B"));
    }
    format!("{}–{long}", first.day())
}

/// `Berlin, Germany`, `Berlin, Germany and online`, or `Online`.
#[must_use]
pub fn place(event: &Event) -> String {
    let parts: Vec<&str> =
        [&*event.city, &event.country].into_iter().filter(|part| !part.is_empty()).collect();
    match (parts.join(", "), event.online) {
        (place, _) if place.is_empty() => "Online".to_owned(),
        (place, true) => format!("{place} and online"),
        (place, false) => place,
    }
}

/// `free`, `25.00 EUR`.
#[must_use]
pub fn price(cents: i64, currency: &str) -> String {
    if cents == 0 {
        return "free".to_owned();
    }
    format!("{}.{:02} {currency}", cents / 100, cents % 100)
}

/// How wide `text` is in `face` at `size`, kerning aside.
pub(super) fn width(face: &Face<'_>, text: &str, size: f32) -> f32 {
    let advance = |c| face.glyph_index(c).and_then(|glyph| face.glyph_hor_advance(glyph));
    let units: f32 = text.chars().map(|c| f32::from(advance(c).unwrap_or_default())).sum();
    units * size / f32::from(face.units_per_em())
}

/// `text` in lines of at most `room`, `most` of them; the last one ends in `…` when more is left.
pub(super) fn lines(face: &Face<'_>, text: &str, size: f32, room: f32, most: usize) -> Vec<String> {
    let fits = |line: &str| width(face, line, size) <= room;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word;
        loop {
            let Some(line) = lines.last_mut() else { return lines };
            let space = if line.is_empty() { "" } else { " " };
            if fits(&format!("{line}{space}{word}")) {
                line.push_str(space);
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                // One word wider than the line is cut where it reaches the edge.
                let cut = word.char_indices().map(|(at, _)| at).skip(1);
                let cut = cut.take_while(|&at| fits(&word[..at])).last().unwrap_or(word.len());
                line.push_str(&word[..cut]);
                word = &word[cut..];
                if word.is_empty() {
                    break;
                }
            }
            lines.push(String::new());
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            while !last.is_empty() && !fits(&format!("{last}…")) {
                last.pop();
            }
            last.push('…');
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_read_as_people_write_them() {
        assert_eq!(days("2026-05-07", "2026-05-07"), "Thu 7 May 2026");
        assert_eq!(days("2026-05-07", "2026-05-09"), "7–9 May 2026");
        assert_eq!(days("2026-05-30", "2026-06-02"), "30 May – 2 June 2026");
        assert_eq!(days("2026-12-30", "2027-01-02"), "30 December 2026 – 2 January 2027");
    }

    #[test]
    fn lines_never_leave_the_paper() {
        let face = Face::parse(dejavu::sans::regular(), 0).unwrap();
        let long = format!("{} a b c {} {}", "x".repeat(90), "Строка".repeat(9), "é ".repeat(200));
        for most in 1..5 {
            let lines = lines(&face, &long, 12.0, 100.0, most);
            assert!(lines.len() <= most);
            assert!(lines.iter().all(|line| width(&face, line, 12.0) <= 100.0), "{lines:?}");
        }
        assert_eq!(lines(&face, "one two", 12.0, 500.0, 1), ["one two"]);
    }
}
