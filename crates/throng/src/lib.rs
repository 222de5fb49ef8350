//! throng: a web site that starts on one machine and ends on a hundred.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use throng::web::{Html, Path, Redirect, get, post};
//! use throng::{App, Ctx, Error, Result, Task, Visitor};
//!
//! fn main() -> std::process::ExitCode {
//!     app().run() // `tickets` runs everything, `tickets web` and `tickets worker` one role each
//! }
//!
//! fn app() -> App {
//!     App::new("tickets")
//!         .route("/shows/{id}", get(show))
//!         .route("/shows/{id}/buy", post(buy))
//!         .task::<MailTicket>()
//!         .sign_in_path("/sign-in")
//! }
//!
//! async fn show(who: Visitor, Path(id): Path<i64>) -> Result<Html<String>> {
//!     let token = who.csrf_field()?; // every posting form carries one
//!     Ok(Html(format!("<form method=post action=/shows/{id}/buy>{token}<button>Buy</button>")))
//! }
//!
//! async fn buy(cx: Ctx, who: Visitor, Path(id): Path<i64>) -> Result<Redirect> {
//!
//!     let user = who.require()?; // sends those who are not signed in to the sign-in page
//!     if id == 13 {
//!         return Err(Error::refused("this show is sold out"));
//!     }
//!     let order = cx.ids.next();
//!     let tx = cx.db.begin().await?;
//!     // … the order is written with `&tx` …
//!     cx.queue.push_in(&tx, MailTicket { order, user }).await?;
//!     cx.bus.publish_in(&tx, &format!("show.{id}"), &"sold").await?;
//!     tx.commit().await?; // mail and message leave if, and only if, the order is there
//!     Ok(Redirect::to(&format!("/orders/{order}")))
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct MailTicket {
//!     order: i64,
//!     user: i64,
//! }
//!
//! impl Task for MailTicket {
//!     const NAME: &'static str = "mail_ticket";
//!
//!     async fn run(self, cx: Ctx) -> Result {
//!         tracing::info!(order.id = self.order, "mailing order {}", self.order);
//!         Ok(())
//!     }
//! }
//! ```
//!
//! # How it thinks
//! An [`App`] is described once and then run, or booted in a test with [`testing::boot`]. One binary
//! holds every [role](start::ROLES): by default one process plays them all, on engines that need no
//! installing; the same program plays one role each when the engines in its [config] are shared.
//!
//! A [`Ctx`] is what handlers, [`Task`]s and [`Command`]s work with: the rooms, the clock, ids. There
//! are no globals. Routes and extractors are axum's, under [`web`]; a [`Visitor`] adds Django's
//! session in a signed cookie.
//!
//! An [`Error`] picks the HTTP answer. Whatever fails with `?` is a page with an id, and a log line
//! with the same id and the cause; what a visitor may read is said on purpose, as above.
//!
//! # Where to read on
//! | for | see |
//! |---|---|
//! | pages, sessions, CSRF, static files | [`web`], [`Visitor`], [`Error`] |
//! | tables, transactions, migrations | [`db`] |
//! | cached values | [`cache`] |
//! | tasks, schedules, signals, counters | [`Task`], [`Receiver`], [`Counter`], [`queue`] |
//! | messages to open pages | [`Bus`], [`bus`] |
//! | commands of your own | [`Command`] |
//! | every config key | [`config::KEYS`], `docs/config.md` |
//! | running it: signals, restarts, health, logs | `docs/running.md` |

mod app;
mod cli;
mod command;
pub mod config;
mod counter;
mod ctx;
mod error;
mod signal;
pub mod start;
pub mod task;
pub mod testing;
pub mod web;

pub use app::App;
pub use command::Command;
pub use config::Config;
pub use counter::Counter;
pub use ctx::{Bus, Ctx, Site};
pub use error::{Error, ErrorPage, Kind as ErrorKind, Result};
pub use signal::Receiver;
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

/// And what the queue's guide shows.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/queue.md")]
struct QueueGuide;
