//! Statistics as HAProxy writes them: the columns of `show stat`, for whatever reads those.

use std::{fmt::Write, time::Duration};

use super::Edge;
use crate::balance::Status;

impl Edge {
    /// Its figures in HAProxy's CSV: a line for the whole, one for each back end, and one for all of
    /// them. What HAProxy counts and the edge does not is left empty.
    #[must_use]
    pub fn haproxy_csv(&self) -> String {
        let mut text = format!("# {}\n", COLUMNS.join(",") + ",");
        let stats = self.stats();
        let [informed, good, moved, refused, failed] = stats.answers();
        let (requests, hits) = stats.requests();
        row(
            &mut text,
            &[
                ("pxname", "edge".into()),
                ("svname", "FRONTEND".into()),
                ("stot", requests.to_string()),
                ("bout", stats.sent_bytes().to_string()),
                ("dreq", stats.limited.get().to_string()),
                ("status", "OPEN".into()),
                ("pid", "1".into()),
                ("iid", "1".into()),
                ("sid", "0".into()),
                ("type", "0".into()),
                ("hrsp_1xx", informed.to_string()),
                ("hrsp_2xx", good.to_string()),
                ("hrsp_3xx", moved.to_string()),
                ("hrsp_4xx", refused.to_string()),
                ("hrsp_5xx", failed.to_string()),
                ("req_tot", requests.to_string()),
                ("mode", "http".into()),
                ("cache_lookups", requests.to_string()),
                ("cache_hits", hits.to_string()),
            ],
        );
        let now = self.clock().elapsed();
        let mut all = All::default();
        for (at, server) in self.inner.fleet.now().iter().enumerate() {
            let (status, counts) = (server.status(now), &server.counts);
            let [informed, good, moved, refused, failed] = counts.answers();
            all.add(status.working_on, &counts.answers(), (counts.requests(), counts.failures()));
            all.up += usize::from(status.status == Status::Up);
            let (connects, broken) = counts.failures();
            let (checks, downs) = counts.checks();
            row(
                &mut text,
                &[
                    ("pxname", "site".into()),
                    ("svname", named(&server.name)),
                    ("qcur", "0".into()),
                    ("scur", status.working_on.to_string()),
                    ("slim", self.inner.config.max_requests_per_server.to_string()),
                    ("stot", counts.requests().to_string()),
                    ("econ", connects.to_string()),
                    ("eresp", broken.to_string()),
                    ("status", word(status.status).into()),
                    ("weight", server.standing.percent().to_string()),
                    ("act", "1".into()),
                    ("bck", "0".into()),
                    ("chkfail", checks.to_string()),
                    ("chkdown", downs.to_string()),
                    ("lastchg", seconds(now.saturating_sub(counts.changed()))),
                    ("pid", "1".into()),
                    ("iid", "2".into()),
                    ("sid", (at + 1).to_string()),
                    ("lbtot", counts.requests().to_string()),
                    ("type", "2".into()),
                    ("hrsp_1xx", informed.to_string()),
                    ("hrsp_2xx", good.to_string()),
                    ("hrsp_3xx", moved.to_string()),
                    ("hrsp_4xx", refused.to_string()),
                    ("hrsp_5xx", failed.to_string()),
                    ("addr", named(&server.name)),
                    ("mode", "http".into()),
                ],
            );
        }
        let waiting = self.inner.waiting.load(std::sync::atomic::Ordering::Relaxed);
        let [informed, good, moved, refused, failed] = all.answers;
        row(
            &mut text,
            &[
                ("pxname", "site".into()),
                ("svname", "BACKEND".into()),
                ("qcur", waiting.to_string()),
                ("scur", all.working_on.to_string()),
                ("stot", all.requests.to_string()),
                ("bout", stats.sent_bytes().to_string()),
                ("econ", all.failures.0.to_string()),
                ("eresp", all.failures.1.to_string()),
                ("wretr", stats.retries.get().to_string()),
                ("status", if all.up > 0 { "UP".into() } else { "DOWN".into() }),
                ("act", all.up.to_string()),
                ("bck", "0".into()),
                ("pid", "1".into()),
                ("iid", "2".into()),
                ("sid", "0".into()),
                ("lbtot", all.requests.to_string()),
                ("type", "1".into()),
                ("hrsp_1xx", informed.to_string()),
                ("hrsp_2xx", good.to_string()),
                ("hrsp_3xx", moved.to_string()),
                ("hrsp_4xx", refused.to_string()),
                ("hrsp_5xx", failed.to_string()),
                ("mode", "http".into()),
                ("cache_lookups", requests.to_string()),
                ("cache_hits", hits.to_string()),
            ],
        );
        text
    }
}

#[derive(Default)]
struct All {
    working_on: usize,
    requests: u64,
    failures: (u64, u64),
    answers: [u64; 5],
    up: usize,
}

impl All {
    fn add(
        &mut self,
        working_on: usize,
        answers: &[u64; 5],
        (requests, failures): (u64, (u64, u64)),
    ) {
        self.working_on += working_on;
        self.requests += requests;
        self.failures = (self.failures.0 + failures.0, self.failures.1 + failures.1);
        self.answers.iter_mut().zip(answers).for_each(|(all, one)| *all += one);
    }
}

fn row(text: &mut String, figures: &[(&str, String)]) {
    for column in COLUMNS {
        let figure = figures.iter().find(|(name, _)| *name == column);
        let _ = write!(text, "{},", figure.map_or("", |(_, figure)| figure));
    }
    text.push('\n');
}

/// A name in which nothing ends its column.
fn named(name: &str) -> String {
    name.replace([',', '"', '\n', ' '], "_")
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Up => "UP",
        Status::Draining => "DRAIN",
        _ => "DOWN",
    }
}

fn seconds(time: Duration) -> String {
    time.as_secs().to_string()
}

/// Those of HAProxy 2.6, in its order.
const COLUMNS: [&str; 95] = [
    "pxname",
    "svname",
    "qcur",
    "qmax",
    "scur",
    "smax",
    "slim",
    "stot",
    "bin",
    "bout",
    "dreq",
    "dresp",
    "ereq",
    "econ",
    "eresp",
    "wretr",
    "wredis",
    "status",
    "weight",
    "act",
    "bck",
    "chkfail",
    "chkdown",
    "lastchg",
    "downtime",
    "qlimit",
    "pid",
    "iid",
    "sid",
    "throttle",
    "lbtot",
    "tracked",
    "type",
    "rate",
    "rate_lim",
    "rate_max",
    "check_status",
    "check_code",
    "check_duration",
    "hrsp_1xx",
    "hrsp_2xx",
    "hrsp_3xx",
    "hrsp_4xx",
    "hrsp_5xx",
    "hrsp_other",
    "hanafail",
    "req_rate",
    "req_rate_max",
    "req_tot",
    "cli_abrt",
    "srv_abrt",
    "comp_in",
    "comp_out",
    "comp_byp",
    "comp_rsp",
    "lastsess",
    "last_chk",
    "last_agt",
    "qtime",
    "ctime",
    "rtime",
    "ttime",
    "agent_status",
    "agent_code",
    "agent_duration",
    "check_desc",
    "agent_desc",
    "check_rise",
    "check_fall",
    "check_health",
    "agent_rise",
    "agent_fall",
    "agent_health",
    "addr",
    "cookie",
    "mode",
    "algo",
    "conn_rate",
    "conn_rate_max",
    "conn_tot",
    "intercepted",
    "dcon",
    "dses",
    "wrew",
    "connect",
    "reuse",
    "cache_lookups",
    "cache_hits",
    "srv_icur",
    "src_ilim",
    "qtime_max",
    "ctime_max",
    "rtime_max",
    "ttime_max",
    "eint",
];
