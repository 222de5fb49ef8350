//! The site's database: one handle that speaks SeaORM over a pool of our own.
//!
//! ```
//! use throng_db::{Db, Migration, Schema};
//! use sea_orm::ConnectionTrait;
//! use sea_query::{ColumnDef, Query, Table};
//!
//! const MIGRATIONS: &[Migration] = &[Migration::new("shop_0001_orders", |schema: &mut Schema| {
//!     let id = ColumnDef::new("id").integer().primary_key().auto_increment().to_owned();
//!     let seat = ColumnDef::new("seat").string().not_null().unique_key().to_owned();
//!     schema.table(Table::create().table("shop_order").col(id).col(seat).to_owned());
//! })];
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let db = Db::sqlite(folder.path().join("site.db")).await?;
//! db.migrate(&[MIGRATIONS]).await?;
//!
//! let tx = db.begin().await?;
//! let seat = Query::insert().into_table("shop_order").columns(["seat"]).values(["F7".into()])?.to_owned();
//! tx.execute(&seat).await?;
//! tx.commit().await?; // on disk from here on; a dropped `tx` is rolled back
//!
//! let all = Query::select().column("seat").from("shop_order").to_owned();
//! assert_eq!(db.read().query_all(&all).await?.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # How it thinks
//! [`Db`] implements SeaORM's connection, stream and transaction traits, so entities, loaders and
//! paginators work on it unchanged. Each statement is looked at ([`Classifier`]) and goes to a
//! connection that may run it: plain reads to the readers, everything else, and every doubt, to the
//! primary. A statement outside a [`Tx`] commits by itself.
//!
//! The pool is bounded and serves waiters in order. A connection on which something was left
//! half-done (a dropped future, an open transaction) is tidied or thrown away, never lent again as
//! it is.
//!
//! # Engines
//! | URL | needs | survives a restart? | shared between processes? | cannot promise |
//! |---|---|---|---|---|
//! | `sqlite:data/site.db` | nothing | yes; commits are synced | yes, on one machine | more than one writer at a time |
//! | `postgres://user:password@primary,replica/site` | feature `postgres`, PostgreSQL 14 or later | yes | yes | that replicas show other people's writes at once |
//! | `mariadb://user:password@primary,replica/site` | feature `mysql`, MariaDB 10.6 or later, GTIDs | yes | yes | the same; a migration that fails halfway is not undone |
//! | `mysql://…` | feature `mysql`, MySQL 8 | yes | yes | the same; visitors who write stay on the primary for a while, by the clock |
//!
//! A URL may name several servers. Which of them is the primary is asked of them, again and again,
//! so a promotion is found by itself. `?reporting=host,host` adds replicas for reports alone.

#![cfg_attr(
    not(any(feature = "postgres", feature = "mysql")),
    allow(dead_code, reason = "only servers make a fleet, and a build without them has none")
)]

mod classify;
mod cluster;
mod config;
pub mod conformance;
mod copy;
mod db;
mod engine;
mod error;
mod fleet;
mod lease;
#[cfg(feature = "postgres")]
mod listen;
mod metrics;
mod migrate;
mod nest;
pub mod outbox;
mod pool;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod promote;
mod raw;
mod route;
mod send;
mod session;
mod sight;
mod status;
mod stream;
mod token;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod topology;
mod traits;
mod tx;

pub use classify::{Classifier, Reason, Verdict};
pub use config::{Config, Tls};
pub use copy::{Copied, CopiedTable, Copy, Progress};
pub use db::{Db, Reader};
pub use error::{Error, Result, kind};
pub use fleet::is_read_only;
#[cfg(feature = "postgres")]
pub use listen::Listener;
pub use migrate::{Applied, Migration, Schema};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use promote::{Promoted, promote};
pub use raw::{Driver, Raw};
pub use route::Route;
pub use status::{Server, Status};
pub use stream::Rows;
pub use throng_core::Kind;
pub use token::{BadToken, Token};
pub use tx::Tx;
