//! Boxoffice through its own doors.

#![expect(
    clippy::unwrap_used,
    reason = "tests; the lint spares only the test functions themselves"
)]

mod accounts;
mod api;
mod browser;
mod house;
mod import;
mod journeys;
mod links;
mod lists;
mod live;
mod looks;
mod mail;
mod pages;
mod plans;
mod purchase;
mod race;
mod seed;
mod tickets;
mod visit;
mod worker;
