//! The queue through its public door.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod aborts;
mod ahead;
mod bad_input;
mod beat;
#[cfg(feature = "redis")]
mod celery;
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[path = "../../../db/tests/it/servers/mod.rs"]
#[expect(dead_code, reason = "the database's own tests use the rest")]
mod clusters;
#[cfg(feature = "redis")]
mod control;
mod counters;
mod crash;
mod databases;
mod engines;
mod everywhere;
mod fairness;
mod follow;
mod frozen;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod held_back;
mod in_flight;
mod keys;
#[cfg(feature = "postgres")]
mod listen;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod own;
mod push;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod rates;
#[cfg(feature = "redis")]
mod redis;
mod schedule;
mod signals;
mod site;
mod transfer;
mod weather;
mod worker;
