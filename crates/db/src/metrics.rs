//! The room's metrics, declared once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};

/// Meters of one pool.
pub(crate) struct Meters {
    pub(crate) in_use: Gauge,
    pub(crate) waits: Histogram,
    pub(crate) timeouts: Counter,
    pub(crate) opened: Counter,
    pub(crate) discarded: Counter,
    pub(crate) statements: Counter,
}

impl Meters {
    /// The meters of the pool called `pool`: `primary`, `replica-1`…
    pub(crate) fn new(pool: &str) -> Self {
        describe();
        let pool = pool.to_owned();
        Self {
            in_use: metrics::gauge!(IN_USE, "pool" => pool.clone()),
            waits: metrics::histogram!(WAIT, "pool" => pool.clone()),
            timeouts: metrics::counter!(TIMEOUTS, "pool" => pool.clone()),
            opened: metrics::counter!(OPENED, "pool" => pool.clone()),
            discarded: metrics::counter!(DISCARDED, "pool" => pool.clone()),
            statements: metrics::counter!(STATEMENTS, "pool" => pool),
        }
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waits.record(time.as_secs_f64());
    }
}

fn describe() {
    metrics::describe_gauge!(IN_USE, Unit::Count, "Connections that are lent out");
    metrics::describe_histogram!(WAIT, Unit::Seconds, "Time that callers waited for a connection");
    metrics::describe_counter!(TIMEOUTS, Unit::Count, "Waits for a connection that ran out");
    metrics::describe_counter!(OPENED, Unit::Count, "Connections opened");
    metrics::describe_counter!(DISCARDED, Unit::Count, "Connections thrown away as not reusable");
    metrics::describe_counter!(STATEMENTS, Unit::Count, "Statements that went to the pool");
}

const IN_USE: &str = "throng_db_connections_in_use";
const WAIT: &str = "throng_db_acquire_wait_seconds";
const TIMEOUTS: &str = "throng_db_acquire_timeouts_total";
const OPENED: &str = "throng_db_connections_opened_total";
const DISCARDED: &str = "throng_db_connections_discarded_total";
const STATEMENTS: &str = "throng_db_statements_total";
