//! throng: a web site that starts on one machine and ends on a hundred.

mod app;
pub mod config;
mod ctx;
mod error;
pub mod web;

pub use app::App;
pub use config::Config;
pub use ctx::{Ctx, Site};
pub use error::{Error, ErrorPage, Kind as ErrorKind, Result};
pub use throng_core::sign;
pub use web::Visitor;
