//! Boxoffice: an events site that sells tickets, built on throng.
//!
//! `models` is what is stored, with one module for each noun; `purchase` holds and sells seats;
//! `accounts` signs people up and in; `tickets` draws and checks tickets; `tasks` is what workers
//! do, `mail` what they send, and `live` what open pages are told; `commands` is what whoever runs
//! the site types, and `demo` what an empty site shows.

pub mod accounts;
mod app;
pub mod commands;
mod demo;
pub mod live;
pub mod mail;
pub mod models;
pub mod purchase;
pub mod tasks;
pub mod tickets;

pub use app::{app, empty};
