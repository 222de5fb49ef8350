//! The room's metrics, declared once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};

use crate::fleet::why::Why;

/// Meters of one pool.
pub(crate) struct Meters {
    pub(crate) in_use: Gauge,
    pub(crate) waits: Histogram,
    pub(crate) timeouts: Counter,
    pub(crate) opened: Counter,
    pub(crate) discarded: Counter,
    pub(crate) served: Counter,
}

impl Meters {
    /// The meters of the pool called `pool`: `db1:5432`, or `writer` and `readers` of SQLite.
    pub(crate) fn new(pool: &str, size: u32) -> Self {
        describe();
        let pool = pool.to_owned();
        metrics::gauge!(MAX, "pool" => pool.clone()).set(f64::from(size));
        Self {
            in_use: metrics::gauge!(IN_USE, "pool" => pool.clone()),
            waits: metrics::histogram!(WAIT, "pool" => pool.clone()),
            timeouts: metrics::counter!(TIMEOUTS, "pool" => pool.clone()),
            opened: metrics::counter!(OPENED, "pool" => pool.clone()),
            discarded: metrics::counter!(DISCARDED, "pool" => pool.clone()),
            served: metrics::counter!(SERVED, "pool" => pool),
        }
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waits.record(time.as_secs_f64());
    }
}

/// Meters of one server of a fleet.
pub(crate) struct ServerMeters {
    pub(crate) lag: Gauge,
    pub(crate) serves: Gauge,
    /// In the order of [`Why::ALL`].
    pub(crate) routed: [Counter; Why::ALL.len()],
}

impl ServerMeters {
    pub(crate) fn new(server: &str) -> Self {
        let routed = |why: Why| metrics::counter!(ROUTED, "pool" => server.to_owned(), "why" => why.as_str());
        Self {
            lag: metrics::gauge!(LAG, "pool" => server.to_owned()),
            serves: metrics::gauge!(SERVES, "pool" => server.to_owned()),
            routed: Why::ALL.map(routed),
        }
    }
}

fn describe() {
    metrics::describe_gauge!(IN_USE, Unit::Count, "Connections that are lent out");
    metrics::describe_gauge!(MAX, Unit::Count, "Connections that can be lent out at once");
    metrics::describe_histogram!(WAIT, Unit::Seconds, "Time that callers waited for a connection");
    metrics::describe_counter!(TIMEOUTS, Unit::Count, "Waits for a connection that ran out");
    metrics::describe_counter!(OPENED, Unit::Count, "Connections opened");
    metrics::describe_counter!(DISCARDED, Unit::Count, "Connections thrown away as not reusable");
    metrics::describe_counter!(SERVED, Unit::Count, "Times that a connection was lent out");
    metrics::describe_counter!(ROUTED, Unit::Count, "Statements and transactions sent to a server");
    metrics::describe_gauge!(LAG, Unit::Seconds, "How old what a server shows is");
    metrics::describe_gauge!(SERVES, Unit::Count, "1 while a replica serves visitors' reads");
}

const IN_USE: &str = "throng_db_connections_in_use";
const MAX: &str = "throng_db_connections_max";
const WAIT: &str = "throng_db_acquire_wait_seconds";
const TIMEOUTS: &str = "throng_db_acquire_timeouts_total";
const OPENED: &str = "throng_db_connections_opened_total";
const DISCARDED: &str = "throng_db_connections_discarded_total";
const SERVED: &str = "throng_db_connections_lent_total";
const ROUTED: &str = "throng_db_routed_total";
const LAG: &str = "throng_db_lag_seconds";
const SERVES: &str = "throng_db_serves_reads";
