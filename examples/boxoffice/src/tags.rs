//! What pages show, as page caches before the site are told: a page says it with `Ctx::shows`, and
//! whoever changes it says so with `Ctx::purge`.

/// One event: its page, its discussion, its seats.
pub(crate) fn event(id: i64) -> String {
    format!("event-{id}")
}

/// The events of one topic, where some of them are listed.
pub(crate) fn topic(topic: &str) -> String {
    format!("topic/{topic}")
}

/// What a person has said and says of themselves.
pub(crate) fn person(id: i64) -> String {
    format!("person-{id}")
}

/// Every list of events. Seats left are in them as of the last minute.
pub(crate) const EVENTS: &str = "events";
