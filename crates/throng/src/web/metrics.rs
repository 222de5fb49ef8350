//! The web role's metrics, each declared once.

use std::time::Duration;

use http::StatusCode;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

pub(crate) fn describe() {
    describe_counter!(ANSWERED, "requests answered, by the first digit of their status");
    describe_histogram!(TOOK, "seconds from a request's headers to the start of its answer");
    describe_gauge!(CONNECTIONS, "connections that are open now");
}

pub(crate) fn answered(status: StatusCode, took: Duration) {
    let class = match status.as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    counter!(ANSWERED, "status" => class).increment(1);
    histogram!(TOOK).record(took.as_secs_f64());
}

/// Counts a connection for as long as it lives.
pub(crate) struct Connected;

impl Connected {
    pub(crate) fn new() -> Self {
        gauge!(CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1.0);
    }
}

const ANSWERED: &str = "throng_web_answered_requests";
const TOOK: &str = "throng_web_request_seconds";
const CONNECTIONS: &str = "throng_web_open_connections";
