//! The edge's figures, each declared once: for the `metrics` facade, and as Prometheus text.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use metrics::{Counter, counter, describe_counter};

use crate::{Cache, ServerStatus, balance::Status};

/// Counts since the edge was made.
#[derive(Debug)]
pub(crate) struct Stats {
    requests: [Figure; CACHE.len()],
    statuses: [Figure; 6],
    sent_bytes: Figure,
    busy_us: Figure,
    pub(crate) retries: Figure,
    pub(crate) ejections: Figure,
    pub(crate) refused: Figure,
    pub(crate) limited: Figure,
    pub(crate) purges: Figure,
    pub(crate) lost_lines: Figure,
    pub(crate) handshakes: Figure,
    pub(crate) floods: Figure,
    pub(crate) malformed: Figure,
    pub(crate) slow: Figure,
}

pub(crate) struct Figure {
    own: AtomicU64,
    facade: Counter,
}

impl Figure {
    fn new(facade: Counter) -> Self {
        Self { own: AtomicU64::new(0), facade }
    }

    pub(crate) fn add(&self, more: u64) {
        self.own.fetch_add(more, Ordering::Relaxed);
        self.facade.increment(more);
    }

    pub(crate) fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

impl Stats {
    pub(crate) fn new() -> Self {
        for (name, help) in HELP {
            describe_counter!(name, help);
        }
        Self {
            requests: CACHE.map(|cache| Figure::new(counter!(REQUESTS, "cache" => cache))),
            statuses: CLASSES.map(|class| Figure::new(counter!(ANSWERS, "status" => class))),
            sent_bytes: Figure::new(counter!(SENT)),
            busy_us: Figure::new(counter!(BUSY)),
            retries: Figure::new(counter!(RETRIES)),
            ejections: Figure::new(counter!(EJECTIONS)),
            refused: Figure::new(counter!(REFUSED)),
            limited: Figure::new(counter!(LIMITED)),
            purges: Figure::new(counter!(PURGES)),
            lost_lines: Figure::new(counter!(LOST_LINES)),
            handshakes: Figure::new(counter!(HANDSHAKES)),
            floods: Figure::new(counter!(FLOODS)),
            malformed: Figure::new(counter!(MALFORMED)),
            slow: Figure::new(counter!(SLOW)),
        }
    }

    pub(crate) fn answered(&self, cache: &str, status: u16, bytes: u64, took: Duration) {
        let outcome = CACHE.iter().position(|name| *name == cache).unwrap_or(CACHE.len() - 1);
        self.requests[outcome].add(1);
        self.statuses[usize::from(status / 100).min(5)].add(1);
        self.sent_bytes.add(bytes);
        self.busy_us.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// All requests, and those that were answered from memory.
    pub(crate) fn requests(&self) -> (u64, u64) {
        let all = self.requests.iter().map(Figure::get).sum();
        (all, self.requests[0].get() + self.requests[1].get())
    }

    /// Answers by class of status, from 1xx on.
    pub(crate) fn answers(&self) -> [u64; 5] {
        [1, 2, 3, 4, 5].map(|class| self.statuses[class].get())
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }

    pub(crate) fn prometheus(&self, cache: &Cache, servers: &[ServerStatus]) -> String {
        let mut text = String::new();
        let mut say = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        let plain = [
            (SENT, &self.sent_bytes),
            (BUSY, &self.busy_us),
            (RETRIES, &self.retries),
            (EJECTIONS, &self.ejections),
            (REFUSED, &self.refused),
            (LIMITED, &self.limited),
            (PURGES, &self.purges),
            (LOST_LINES, &self.lost_lines),
            (HANDSHAKES, &self.handshakes),
            (FLOODS, &self.floods),
            (MALFORMED, &self.malformed),
            (SLOW, &self.slow),
        ];
        for (name, help) in HELP {
            say(&format!("# HELP {name} {help}\n# TYPE {name} counter"));
            match name {
                REQUESTS => CACHE.iter().zip(&self.requests).for_each(|(cache, figure)| {
                    say(&format!("{name}{{cache=\"{cache}\"}} {}", figure.get()));
                }),
                ANSWERS => CLASSES.iter().zip(&self.statuses).for_each(|(class, figure)| {
                    say(&format!("{name}{{status=\"{class}\"}} {}", figure.get()));
                }),
                _ => plain.iter().filter(|(own, _)| *own == name).for_each(|(_, figure)| {
                    say(&format!("{name} {}", figure.get()));
                }),
            }
        }
        say("# HELP throng_edge_stored_bytes what the cache holds in memory");
        say("# TYPE throng_edge_stored_bytes gauge");
        say(&format!("throng_edge_stored_bytes {}", cache.bytes()));
        say("# HELP throng_edge_server_up whether a back end gets requests");
        say("# TYPE throng_edge_server_up gauge");
        for server in servers {
            let name = server.name.replace(['"', '\\', '\n'], "");
            let is_up = u8::from(server.status == Status::Up);
            let _ = writeln!(text, "throng_edge_server_up{{server=\"{name}\"}} {is_up}");
        }
        text.push_str("# HELP throng_edge_server_requests what a back end works on\n");
        text.push_str("# TYPE throng_edge_server_requests gauge\n");
        for server in servers {
            let name = server.name.replace(['"', '\\', '\n'], "");
            let working_on = server.working_on;
            let _ = writeln!(text, "throng_edge_server_requests{{server=\"{name}\"}} {working_on}");
        }
        text
    }
}

const CACHE: [&str; 7] = ["hit", "stale", "collapsed", "validated", "miss", "pass", "none"];
const CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];
const REQUESTS: &str = "throng_edge_requests_total";
const ANSWERS: &str = "throng_edge_answers_total";
const SENT: &str = "throng_edge_sent_bytes_total";
const BUSY: &str = "throng_edge_busy_us_total";
const RETRIES: &str = "throng_edge_retries_total";
const EJECTIONS: &str = "throng_edge_ejections_total";
const REFUSED: &str = "throng_edge_refused_total";
const LIMITED: &str = "throng_edge_limited_total";
const PURGES: &str = "throng_edge_purges_total";
const LOST_LINES: &str = "throng_edge_lost_log_lines_total";
const HANDSHAKES: &str = "throng_edge_failed_handshakes_total";
const FLOODS: &str = "throng_edge_floods_total";
const MALFORMED: &str = "throng_edge_malformed_total";
const SLOW: &str = "throng_edge_slow_connections_total";
const HELP: [(&str, &str); 14] = [
    (REQUESTS, "requests by what the cache did for them"),
    (ANSWERS, "answers by class of status"),
    (SENT, "bytes of bodies sent to visitors"),
    (BUSY, "time from the head of a request to the end of its answer, added up"),
    (RETRIES, "requests sent again to another back end"),
    (EJECTIONS, "times that a back end failed too often and was left alone for a while"),
    (REFUSED, "requests that got no answer of a back end"),
    (LIMITED, "requests of clients that asked more than they may"),
    (PURGES, "purges over HTTP"),
    (LOST_LINES, "lines of the access log that were dropped because its writer fell behind"),
    (HANDSHAKES, "connections that ended before TLS was agreed on"),
    (FLOODS, "HTTP/2 connections that were cut for giving up most of what they asked for"),
    (MALFORMED, "requests that cannot be understood or are larger than they may be"),
    (SLOW, "connections that were closed because too little came, or was read, for too long"),
];
