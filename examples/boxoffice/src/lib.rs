//! Boxoffice: an events site that sells tickets, built on throng.
//!
//! `models` is what is stored, with one module for each noun; `purchase` holds and sells seats;
//! `accounts` signs people up and in; `tickets` draws and checks tickets; `tasks` is what workers do.

pub mod accounts;
pub mod models;
pub mod purchase;
pub mod tickets;
