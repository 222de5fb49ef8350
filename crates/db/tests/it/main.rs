//! The room through its door.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod classifier;
mod durability;
#[cfg(feature = "postgres")]
mod guarantees;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod mariadb;
mod migrations;
mod outbox;
#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod seaorm;
#[cfg(feature = "postgres")]
mod servers;
mod sqlite;
