//! The room through its door.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod classifier;
mod durability;
#[cfg(feature = "mysql")]
mod mariadb;
mod migrations;
mod outbox;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod servers;
mod sqlite;
