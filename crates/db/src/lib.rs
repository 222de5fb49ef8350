//! The site's database: one handle that speaks SeaORM over a pool of our own.
//!
//! ```
//! use throng_db::{Db, Migration, Schema};
//! use sea_orm::{ConnectionTrait, TransactionSession};
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

mod classify;
mod config;
pub mod conformance;
mod db;
mod engine;
mod error;
mod metrics;
mod migrate;
pub mod outbox;
mod pool;
mod raw;
mod stream;
mod tx;

pub use classify::{Classifier, Reason, Verdict};
pub use config::Config;
pub use db::{Db, Reader};
pub use error::{Error, Kind, Result, kind};
pub use migrate::{Applied, Migration, Schema};
pub use raw::{Driver, Raw};
pub use stream::Rows;
pub use tx::Tx;
