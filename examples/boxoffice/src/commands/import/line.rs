//! One line of an import: an event, or what is wrong with it.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::models::events::{is_date, parse_price};

/// What a line that says nothing about it has.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Seats.
    pub capacity: i32,
}

/// An event as a line describes it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) starts_on: String,
    pub(super) ends_on: String,
    pub(super) city: String,
    pub(super) country: String,
    pub(super) online: bool,
    pub(super) locales: String,
    pub(super) topic: String,
    pub(super) description: String,
    pub(super) capacity: i32,
    pub(super) price_cents: i64,
    pub(super) currency: String,
}

impl Line {
    pub(super) fn parse(text: &str, defaults: Defaults) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        let Value::Object(object) = value else {
            return Err("is not a JSON object".to_owned());
        };
        let fields = Fields(&object);
        let starts_on = fields.required("startDate", 10)?;
        let ends_on = fields.text("endDate", 10)?.unwrap_or_else(|| starts_on.clone());
        for (field, day) in [("startDate", &starts_on), ("endDate", &ends_on)] {
            if !is_date(day) {
                return Err(format!("`{field}` is `{day}`, not a day such as 2026-05-01"));
            }
        }
        if ends_on < starts_on {
            return Err(format!("`endDate` {ends_on} is before `startDate` {starts_on}"));
        }
        let url = fields.text("url", 500)?.unwrap_or_default();
        if !(url.is_empty() || url.starts_with("http://") || url.starts_with("https://")) {
            return Err(format!("`url` is `{url}`, which does not start with https:// or http://"));
        }
        let city = fields.text("city", 100)?.unwrap_or_default();
        Ok(Self {
            name: fields.required("name", 200)?,
            url,
            starts_on,
            ends_on,
            online: fields.flag("online")?.unwrap_or(city.is_empty()),
            city,
            country: fields.text("country", 100)?.unwrap_or_default(),
            locales: fields.text("locales", 50)?.unwrap_or_default(),
            topic: fields.text("topic", 50)?.unwrap_or_else(|| "general".to_owned()).to_lowercase(),
            description: fields.text("description", 10_000)?.unwrap_or_default(),
            capacity: fields.seats("capacity")?.unwrap_or(defaults.capacity),
            price_cents: fields.price("price")?,
            currency: fields.currency("currency")?,
        })
    }

    /// What an event is recognised by when it comes again.
    pub(super) fn key(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.name, &self.url, &self.starts_on, &self.topic, &self.city] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn text(&self, field: &str, most: usize) -> Result<Option<String>, String> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                let text = text.trim();
                if text.chars().count() > most {
                    return Err(format!("`{field}` is longer than {most} characters"));
                }
                if text.contains('\0') {
                    return Err(format!("`{field}` holds a null character"));
                }
                Ok((!text.is_empty()).then(|| text.to_owned()))
            }
            Some(other) => Err(wrong(field, other, "text")),
        }
    }

    fn required(&self, field: &str, most: usize) -> Result<String, String> {
        self.text(field, most)?.ok_or_else(|| format!("`{field}` is missing"))
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, String> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(*is)),
            Some(other) => Err(wrong(field, other, "true or false")),
        }
    }

    fn seats(&self, field: &str) -> Result<Option<i32>, String> {
        let wanted = "a number of seats from 0 to 1,000,000";
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64().filter(|seats| (0..=1_000_000).contains(seats)) {
                Some(seats) => Ok(i32::try_from(seats).ok()),
                None => Err(wrong(field, value, wanted)),
            },
        }
    }

    fn price(&self, field: &str) -> Result<i64, String> {
        let (value, text) = match self.0.get(field) {
            None | Some(Value::Null) => return Ok(0),
            Some(value @ Value::String(text)) => (value, text.trim().to_owned()),
            Some(value) => (value, value.to_string()),
        };
        parse_price(&text).ok_or_else(|| wrong(field, value, "an amount such as 25 or 25.50"))
    }

    fn currency(&self, field: &str) -> Result<String, String> {
        let code = self.text(field, 20)?.unwrap_or_else(|| "EUR".to_owned()).to_uppercase();
        match code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            true => Ok(code),
            false => Err(format!("`{field}` is `{code}`, not three letters such as EUR")),
        }
    }
}

fn wrong(field: &str, value: &Value, wanted: &str) -> String {
    let mut shown: String = value.to_string().chars().take(41).collect();
    if shown.chars().count() > 40 {
        shown.pop();
        shown.push('…');
    }
    format!("`{field}` is {shown}, not {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, problem: &str) {
        let told = Line::parse(text, Defaults { capacity: 9 }).unwrap_err();
        assert!(told.contains(problem), "{told}");
    }

    #[test]
    fn a_full_line_is_read_whole() {
        let text = r#"{"name": " Rubyfuza ", "url": "http://rubyfuza.org", "startDate": "2013-02-07",
            "endDate": "2013-02-09", "city": "Cape Town", "country": "South Africa", "topic": "Ruby",
            "locales": "EN", "price": 25.5, "currency": "zar", "unknown": [1]}"#;
        let line = Line::parse(text, Defaults { capacity: 9 }).unwrap();
        assert_eq!((&*line.name, &*line.topic, line.online), ("Rubyfuza", "ruby", false));
        assert_eq!((line.price_cents, &*line.currency, line.capacity), (2_550, "ZAR", 9));
    }

    #[test]
    fn every_kind_of_mistake_is_named() {
        check("nonsense", "not JSON");
        check("[1]", "not a JSON object");
        check(r#"{"startDate": "2026-01-01"}"#, "`name` is missing");
        check(r#"{"name": "x"}"#, "`startDate` is missing");
        check(r#"{"name": "x", "startDate": "2026-02-30"}"#, "not a day");
        check(r#"{"name": "x", "startDate": "20260230"}"#, "not a day");
        check(r#"{"name": 5, "startDate": "2026-01-01"}"#, "`name` is 5, not text");
        let before = r#"{"name": "x", "startDate": "2026-01-02", "endDate": "2026-01-01"}"#;
        check(before, "before `startDate`");
        check(r#"{"name": "x", "startDate": "2026-01-01", "url": "javascript:x"}"#, "`url`");
        check(r#"{"name": "x", "startDate": "2026-01-01", "capacity": -1}"#, "number of seats");
        check(r#"{"name": "x", "startDate": "2026-01-01", "price": "-5"}"#, "an amount");
        let long = format!(r#"{{"name": "{}", "startDate": "2026-01-01"}}"#, "x".repeat(201));
        check(&long, "longer than 200");
    }
}
