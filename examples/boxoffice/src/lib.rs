//! Boxoffice: an events site that sells tickets, built on throng.
//!
//! `models` is what is stored, with one module for each noun; `purchase` holds and sells seats;
//! `accounts` signs people up and in; `tickets` draws and checks tickets; `tasks` is what workers
//! do, `receivers` what they do when an event was saved, `mail` what they send, `live` what open pages are told, `kept` what the cache keeps, and `tags` what page caches purge;
//! `commands` is what whoever runs the site types, and `demo` what an empty site shows. `pages` answers browsers and `api` programs;
//! `views` is what pages look like.

pub mod accounts;
mod api;
mod app;
pub mod commands;
mod demo;
mod kept;
pub mod live;
pub mod mail;
pub mod models;
mod pages;
pub mod purchase;
mod receivers;
mod tags;
pub mod tasks;
pub mod tickets;
mod views;

pub use app::{app, empty};
