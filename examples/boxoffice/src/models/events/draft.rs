//! What an organiser fills in, the checks on it, and what it changes.

use sea_orm::{ActiveValue, IntoActiveModel};
use serde::{Deserialize, Serialize};

use super::{ActiveModel, Model, Status};
use crate::models::{Problems, Stamp};

/// The form of an event, as typed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Form {
    /// What it is called.
    pub name: String,
    /// Its own site, if it has one.
    pub url: String,
    /// First day, `YYYY-MM-DD`.
    pub starts_on: String,
    /// Last day; empty means the first.
    pub ends_on: String,
    /// City; may be empty for an online event.
    pub city: String,
    /// Country; may be empty for an online event.
    pub country: String,
    /// Any text (`on`, `true`) when it can be attended online.
    pub online: Option<String>,
    /// One word, such as `rust`.
    pub topic: String,
    /// What visitors read.
    pub description: String,
    /// How many seats there are.
    pub capacity: String,
    /// Price of a seat, such as `25` or `25.50`; empty is free.
    pub price: String,
    /// ISO 4217 code; empty is EUR.
    pub currency: String,
    /// Any text when everyone may see it.
    pub published: Option<String>,
}

/// A form that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What it is called.
    pub name: String,
    /// Its own site; empty when it has none.
    pub url: String,
    /// First day, `YYYY-MM-DD`.
    pub starts_on: String,
    /// Last day, not before the first.
    pub ends_on: String,
    /// City; empty when it is only online.
    pub city: String,
    /// Country; empty when it is only online.
    pub country: String,
    /// Whether it can be attended online.
    pub online: bool,
    /// One word, such as `rust`.
    pub topic: String,
    /// Plain text.
    pub description: String,
    /// How many seats there are.
    pub capacity: i32,
    /// Price of one seat in the currency's smallest unit; 0 is free.
    pub price_cents: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Whether everyone sees it.
    pub published: bool,
}

impl Form {
    /// The form filled with an event, to edit it.
    #[must_use]
    pub fn of(event: &Model, capacity: i32) -> Self {
        let on = |is: bool| is.then(|| "on".to_owned());
        Self {
            name: event.name.clone(),
            url: event.url.clone(),
            starts_on: event.starts_on.clone(),
            ends_on: event.ends_on.clone(),
            city: event.city.clone(),
            country: event.country.clone(),
            online: on(event.online),
            topic: event.topic.clone(),
            description: event.description.clone(),
            capacity: capacity.to_string(),
            price: format!("{}.{:02}", event.price_cents / 100, event.price_cents % 100),
            currency: event.currency.clone(),
            published: on(event.status == Status::Published),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Every problem at once, in words for the person who typed.
    pub fn check(&self) -> Result<Draft, Problems> {
        let mut problems = Problems::default();
        let name = self.name.trim().to_owned();
        if name.chars().count() < 3 {
            problems.add("name", "needs at least 3 characters");
        }
        let url = self.url.trim().to_owned();
        if !(url.is_empty() || url.starts_with("https://") || url.starts_with("http://")) {
            problems.add("url", "must start with https:// or http://");
        }
        let starts_on = self.starts_on.trim().to_owned();
        if !is_date(&starts_on) {
            problems.add("starts_on", "needs a date, such as 2026-05-01");
        }
        let mut ends_on = self.ends_on.trim().to_owned();
        if ends_on.is_empty() {
            ends_on.clone_from(&starts_on);
        } else if !is_date(&ends_on) {
            problems.add("ends_on", "needs a date, such as 2026-05-01");
        } else if ends_on < starts_on {
            problems.add("ends_on", "is before the first day");
        }
        let online = self.online.is_some();
        let city = self.city.trim().to_owned();
        let country = self.country.trim().to_owned();
        if !online && city.is_empty() {
            problems.add("city", "is needed unless the event is online");
        }
        if !online && country.is_empty() {
            problems.add("country", "is needed unless the event is online");
        }
        let topic = self.topic.trim().to_lowercase().replace(char::is_whitespace, "-");
        if topic.is_empty() {
            problems.add("topic", "needs a word, such as rust");
        }
        let capacity =
            self.capacity.trim().parse().ok().filter(|seats| (1..=1_000_000).contains(seats));
        if capacity.is_none() {
            problems.add("capacity", "needs a number of seats from 1 to 1,000,000");
        }
        let price_cents = parse_price(self.price.trim());
        if price_cents.is_none() {
            problems.add("price", "needs an amount, such as 25 or 25.50");
        }
        let currency = match self.currency.trim() {
            "" => "EUR".to_owned(),
            code => code.to_uppercase(),
        };
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            problems.add("currency", "needs three letters, such as EUR");
        }
        let description = self.description.trim().replace("\r\n", "\n");
        for (field, value, most) in [
            ("name", &name, 200),
            ("url", &url, 500),
            ("city", &city, 100),
            ("country", &country, 100),
            ("topic", &topic, 50),
            ("description", &description, 10_000),
        ] {
            if value.chars().count() > most {
                problems.add(field, format!("is longer than {most} characters"));
            }
        }
        problems.into_result()?;
        Ok(Draft {
            name,
            url,
            starts_on,
            ends_on,
            city,
            country,
            online,
            topic,
            description,
            capacity: capacity.unwrap_or_default(),
            price_cents: price_cents.unwrap_or_default(),
            currency,
            published: self.published.is_some(),
        })
    }
}

impl Draft {
    pub(crate) fn to_event(&self, stamp: Stamp, organiser_id: Option<i64>) -> Model {
        Model {
            id: stamp.id,
            name: self.name.clone(),
            url: self.url.clone(),
            starts_on: self.starts_on.clone(),
            ends_on: self.ends_on.clone(),
            city: self.city.clone(),
            country: self.country.clone(),
            online: self.online,
            locales: String::new(),
            topic: self.topic.clone(),
            description: self.description.clone(),
            organiser_id,
            price_cents: self.price_cents,
            currency: self.currency.clone(),
            status: if self.published { Status::Published } else { Status::Draft },
            created_at_ms: stamp.at_ms,
            import_key: None,
        }
    }

    /// The columns that differ from `event`, and the event as it will be.
    pub(super) fn changes(&self, event: &Model) -> (ActiveModel, Model) {
        let stamp = Stamp { id: event.id, at_ms: event.created_at_ms };
        let mut edited = self.to_event(stamp, event.organiser_id);
        edited.locales.clone_from(&event.locales);
        edited.import_key.clone_from(&event.import_key);
        if event.status == Status::Cancelled {
            edited.status = Status::Cancelled;
        }
        let mut changes = event.clone().into_active_model();
        fn set<T: Into<sea_orm::Value> + Clone + PartialEq>(field: &mut ActiveValue<T>, new: &T) {
            if field.as_ref() != new {
                *field = ActiveValue::Set(new.clone());
            }
        }
        set(&mut changes.name, &edited.name);
        set(&mut changes.url, &edited.url);
        set(&mut changes.starts_on, &edited.starts_on);
        set(&mut changes.ends_on, &edited.ends_on);
        set(&mut changes.city, &edited.city);
        set(&mut changes.country, &edited.country);
        set(&mut changes.online, &edited.online);
        set(&mut changes.topic, &edited.topic);
        set(&mut changes.description, &edited.description);
        set(&mut changes.price_cents, &edited.price_cents);
        set(&mut changes.currency, &edited.currency);
        set(&mut changes.status, &edited.status);
        (changes, edited)
    }
}

/// Whether `text` is a day of the calendar, written `YYYY-MM-DD`.
#[must_use]
pub fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// `25`, `25.5` and `25.50` in cents; empty is free.
pub(crate) fn parse_price(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (units, cents) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(units) || !digits(cents) || units.len() > 7 || cents.len() > 2 {
        return None;
    }
    let tens = if cents.len() == 1 { 10 } else { 1 };
    Some(units.parse::<i64>().ok()? * 100 + cents.parse::<i64>().ok()? * tens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_exactly_or_not_at_all() {
        for (text, cents) in [("", 0), ("25", 2_500), ("25.5", 2_550), ("0,99", 99)] {
            assert_eq!(parse_price(text), Some(cents), "{text}");
        }
        for text in ["-1", "1.234", "1.", ".5", "1e3", "٣", "12345678", "NaN"] {
            assert_eq!(parse_price(text), None, "{text}");
        }
    }

    #[test]
    fn every_problem_of_a_form_is_told_at_once() {
        let form =
            Form { starts_on: "2026-02-30".into(), url: "javascript:1".into(), ..Form::default() };
        let problems = form.check().unwrap_err();
        let fields: Vec<_> = problems.iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["name", "url", "starts_on", "city", "country", "topic", "capacity"]);
    }
}
