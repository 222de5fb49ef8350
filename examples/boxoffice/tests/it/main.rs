//! Boxoffice through its own doors.

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
