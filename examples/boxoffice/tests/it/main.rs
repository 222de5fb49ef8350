//! Boxoffice through its own doors.

#![expect(
    clippy::unwrap_used,
    reason = "tests; the lint spares only the test functions themselves"
)]

mod accounts;
mod house;
mod import;
mod lists;
mod mail;
mod plans;
mod purchase;
mod race;
mod seed;
mod tickets;
mod worker;
