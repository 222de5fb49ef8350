//! throng: a web site that starts on one machine and ends on a hundred.

mod app;
mod cli;
mod command;
pub mod config;
mod ctx;
mod error;
pub mod start;
pub mod task;
pub mod testing;
pub mod web;

pub use app::App;
pub use command::Command;
pub use config::Config;
pub use ctx::{Bus, Ctx, Site};
pub use error::{Error, ErrorPage, Kind as ErrorKind, Result};
pub use task::{Queue, Task};
pub use throng_bus as bus;
pub use throng_cache as cache;
pub use throng_core::{Clock, Ids, Shutdown, sign, url};
pub use throng_db as db;
pub use throng_queue as queue;
pub use web::Visitor;

/// The program in the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
