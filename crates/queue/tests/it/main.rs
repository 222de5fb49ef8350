//! The queue through its public door.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[cfg(feature = "redis")]
mod celery;
#[cfg(feature = "redis")]
mod control;
mod crash;
mod engines;
mod push;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
mod schedule;
mod site;
mod transfer;
mod weather;
mod worker;
