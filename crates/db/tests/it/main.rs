//! The room through its door.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod classifier;
mod durability;
mod migrations;
mod outbox;
mod sqlite;
