//! What the edge is told, and its bounds.

mod check;

use std::path::PathBuf;

use throng_core::Secret;

use crate::{Balance, cache::Policy, peer::Network};

/// Everything that can be set. Every bound has a default under which a site works.
#[derive(Clone, Debug)]
pub struct Config {
    /// What may be cached. Defaults to [`Policy::talks`].
    pub policy: Policy,
    /// How much the cache holds in memory, in bytes. Defaults to 256 MiB.
    pub cache_bytes: u64,
    /// A folder for a second store below the one in memory, which is found again after a restart. Pages
    /// that are fresh for less than five seconds are not written. Defaults to none.
    pub disk_folder: Option<PathBuf>,
    /// How much that store holds, in bytes; what was written first leaves first. Defaults to 1 GiB.
    pub disk_bytes: u64,
    /// Peers whose Forwarded, X-Forwarded-* and X-Request-Id count. Defaults to none.
    pub trusted_peers: Vec<Network>,
    /// Whether every connection begins with a PROXY protocol header, version 1 or 2, as a balancer
    /// before this one sends it. Only `trusted_peers` may connect then, and a connection without
    /// the header is closed. Defaults to false.
    pub proxy_protocol: bool,
    /// What `Authorization: Bearer …` of a purge must say. Without it nobody may purge over HTTP.
    /// Defaults to none.
    pub purge_token: Option<Secret>,
    /// How long the head of a request may take to come, and a connection may rest between two
    /// requests, in milliseconds. Defaults to 30,000.
    pub head_timeout_ms: u64,
    /// How long a body may make no progress, in either direction, in milliseconds. Defaults to
    /// 60,000; answers of type `text/event-stream` and tunnels may rest for as long as they like.
    pub body_timeout_ms: u64,
    /// The largest head of a request, in bytes. Beyond it is 431. Defaults to 64 KiB.
    pub max_head_bytes: usize,
    /// The most fields in the head of a request. Beyond them is 431. Defaults to 100.
    pub max_fields: usize,
    /// The largest body of a request, in bytes. Beyond it is 413. Defaults to 64 MiB.
    pub max_body_bytes: u64,
    /// Connections of visitors at a time. Further ones wait in the kernel. Defaults to 16,384.
    pub max_connections: usize,
    /// How long connecting to a back end may take, in milliseconds. Defaults to 1,000.
    pub connect_timeout_ms: u64,
    /// How long a back end may take to begin its answer, in milliseconds. Defaults to 30,000.
    pub answer_timeout_ms: u64,
    /// Requests that one back end works on at a time. Defaults to 256.
    pub max_requests_per_server: usize,
    /// Requests that wait for a back end to be free. Further ones get 503 at once. Defaults to
    /// 1,024.
    pub max_queue: usize,
    /// How long a request may wait there, in milliseconds. Defaults to 5,000.
    pub queue_timeout_ms: u64,
    /// Stale pages that are fetched anew at a time, while visitors are served what there is. One
    /// that finds no room is left to its next visitor, so that pages which run out together do not
    /// keep the back ends from those who wait. With 0, whoever finds a page past its grace waits for
    /// a new one. Defaults to 64.
    pub max_refreshes: usize,
    /// How a back end is chosen. Defaults to [`Balance::PeakEwma`].
    pub balance: Balance,
    /// How often one idempotent request may be tried again at another back end. Defaults to 3.
    pub retries: usize,
    /// What a visitor is told to wait after a 503, in seconds. Defaults to 5.
    pub retry_after_s: u32,
    /// How much one client may ask. Defaults to as much as it likes.
    pub client: ClientLimits,
    /// How back ends are watched.
    pub health: Health,
}

/// What one client may ask; beyond it the answer is 429 with Retry-After. A client is an address
/// (IPv4) or a /64 network (IPv6), as `trusted_peers` say it. 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests a second in the long run. Defaults to 0.
    pub requests_per_s: u32,
    /// Requests at once after a silence, when there is a rate. Defaults to 0, which is one.
    pub burst: u32,
    /// Requests whose answers have not been read to their end. Defaults to 0.
    pub requests_at_a_time: u32,
}

/// How back ends are found sick and well.
#[derive(Clone, Debug)]
pub struct Health {
    /// What is fetched to see whether a back end lives; any status under 500 is life. Without it a
    /// connection is life, which does not notice a back end that hangs. Defaults to none.
    pub path: Option<String>,
    /// How often it is asked, in milliseconds. Defaults to 250.
    pub interval_ms: u64,
    /// How long it may take, in milliseconds. Defaults to 250.
    pub timeout_ms: u64,
    /// Failed checks in a row that take a back end out. Defaults to 2.
    pub fall: u32,
    /// Checks passed in a row that bring it back. Defaults to 2.
    pub rise: u32,
    /// Failed requests in a row that take a back end out for a while. Defaults to 3.
    pub eject_after: u32,
    /// How long the first time, in milliseconds; each time in a row takes as long again, up to
    /// thirty times. Defaults to 1,000.
    pub eject_ms: u64,
    /// How long a back end that came back gets less than its share, in milliseconds. Defaults to
    /// 5,000.
    pub slow_start_ms: u64,
    /// When less than this part of the back ends is well, in percent, all of them are used: the
    /// checks may be what is wrong. Defaults to 34.
    pub panic_percent: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::talks(),
            cache_bytes: 256 << 20,
            disk_folder: None,
            disk_bytes: 1 << 30,
            trusted_peers: Vec::new(),
            proxy_protocol: false,
            purge_token: None,
            head_timeout_ms: 30_000,
            body_timeout_ms: 60_000,
            max_head_bytes: 64 << 10,
            max_fields: 100,
            max_body_bytes: 64 << 20,
            max_connections: 16_384,
            connect_timeout_ms: 1_000,
            answer_timeout_ms: 30_000,
            max_requests_per_server: 256,
            max_queue: 1_024,
            queue_timeout_ms: 5_000,
            max_refreshes: 64,
            balance: Balance::default(),
            retries: 3,
            retry_after_s: 5,
            client: ClientLimits::default(),
            health: Health::default(),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: None,
            interval_ms: 250,
            timeout_ms: 250,
            fall: 2,
            rise: 2,
            eject_after: 3,
            eject_ms: 1_000,
            slow_start_ms: 5_000,
            panic_percent: 34,
        }
    }
}
