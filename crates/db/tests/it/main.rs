//! The room through its door.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

#[cfg(all(feature = "postgres", feature = "mysql"))]
mod altered;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod cancelled;
mod classifier;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod copy;
mod durability;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod endings;
#[cfg(feature = "postgres")]
mod guarantees;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod mariadb;
mod migrations;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod mistakes;
mod outbox;
mod pool;
#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod retries;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod seaorm;
#[cfg(feature = "postgres")]
#[cfg_attr(not(feature = "mysql"), allow(dead_code, reason = "that engine's tests use the rest"))]
mod servers;
mod sqlite;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod timeouts;
