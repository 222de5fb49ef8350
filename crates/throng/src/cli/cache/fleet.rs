//! What is asked about the servers of a memcached fleet: who owns a key, how they are, which ring
//! the other clients use.

use std::process::ExitCode;

use serde_json::json;
use throng_cache::engine::{Ejected, Memcached, Probe, ServerStats};
use throng_core::Clock;

use super::Target;
use crate::{
    Error,
    cli::{Failure, print::table, say},
};

pub(super) fn places(target: &Target, keys: &[String], is_json: bool) -> Result<ExitCode, Failure> {
    let fleet = target.memcached("where")?;
    for key in keys {
        let server = fleet.owner(key).map_err(Error::from)?.unwrap_or_default();
        if is_json {
            say(json!({ "key": key, "server": server }));
        } else {
            say(format_args!("{key}\t{server}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn stats(target: &Target, is_json: bool) -> Result<ExitCode, Failure> {
    let servers = target.memcached("stats")?.stats().await;
    if is_json {
        for ServerStats { server, stats, .. } in &servers {
            match stats {
                Ok(stats) => say(json!({ "server": server, "stats": stats })),
                Err(reason) => say(json!({ "server": server, "error": reason })),
            }
        }
    } else {
        let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
        rows.extend(servers.iter().map(row));
        table(&rows);
    }
    let all_answer = servers.iter().all(|server| server.stats.is_ok());
    Ok(if all_answer { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(server: &ServerStats) -> Vec<String> {
    let stats = match &server.stats {
        Ok(stats) => stats,
        Err(reason) => return vec![server.server.clone(), reason.clone()],
    };
    let number = |name| server.number(name).unwrap_or(0);
    let asked = number("get_hits") + number("get_misses");
    let rate = match asked {
        0 => "-".to_owned(),
        asked => format!("{}%", number("get_hits") * 100 / asked),
    };
    let mib = |name| format!("{} MiB", number(name) >> 20);
    vec![
        server.server.clone(),
        stats.get("version").cloned().unwrap_or_default(),
        number("curr_items").to_string(),
        mib("bytes"),
        mib("limit_maxbytes"),
        rate,
        number("evictions").to_string(),
        number("curr_connections").to_string(),
    ]
}

pub(super) async fn probe(
    target: &Target,
    keys: &[String],
    is_json: bool,
) -> Result<ExitCode, Failure> {
    let url = &target.url;
    if url.scheme() != "memcached" || url.hosts().len() < 2 {
        let words = "`cache probe` wants a memcached URL with the servers of the fleet, at least two: \
                     `memcached://10.0.0.1,10.0.0.2`";
        return Err(Failure::Usage(words.to_owned()));
    }
    if keys.is_empty() {
        let words = "`cache probe` wants keys that the Python site wrote, and was given none";
        return Err(Failure::Usage(words.to_owned()));
    }
    let probe = Memcached::probe(url, keys, &Clock::system()).await;
    let probe = probe.map_err(|error| target.refused(error))?;
    let found = probe.found();
    if is_json {
        let rings = probe.rings.iter().map(|fit| (fit.ring.to_owned(), json!(fit.keys)));
        let rings: serde_json::Map<_, _> = rings.collect();
        say(json!({ "keys": keys.len(), "found": found, "rings": rings,
            "silent": probe.silent, "url": probe.url }));
    } else {
        let mut rows = vec![["RING", "KEYS WHERE IT PUTS THEM"].map(str::to_owned).to_vec()];
        rows.extend(
            probe
                .rings
                .iter()
                .map(|fit| vec![fit.ring.to_owned(), format!("{} of {found}", fit.keys)]),
        );
        table(&rows);
        for server in &probe.silent {
            say(format_args!(
                "{server} does not answer, so keys that are there count as not found"
            ));
        }
        say(verdict(&probe, keys.len()));
    }
    Ok(if probe.url.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells which servers failed when they were asked, and whether any did: what they own was looked for,
/// or stored for a while, on others.
pub(super) fn complain(fleet: Option<&Memcached>) -> bool {
    let ejected = fleet.map(Memcached::ejected).unwrap_or_default();
    for server in &ejected {
        let Ejected { server, reason, .. } = server;
        eprintln!("{server} is off the ring: {reason}");
    }
    !ejected.is_empty()
}

/// What follows from what was found.
fn verdict(probe: &Probe, asked: usize) -> String {
    let found = probe.found();
    let fitting = probe.rings.iter().filter(|fit| fit.keys == found);
    let fitting: Vec<&str> = fitting.map(|fit| fit.ring).collect();
    match (&probe.url, found) {
        (Some(url), _) => format!("write: cache.url = \"{url}\""),
        (None, 0) => format!("none of {asked} keys is on any of the servers"),
        (None, _) if fitting.is_empty() => {
            "no ring fits: the servers may stand in another order, under other names or with other \
             weights in the Python site's settings, or some keys are old copies from another ring"
                .to_owned()
        }
        (None, _) => format!("{found} keys may fit {} by chance: give more", fitting.join(" or ")),
    }
}

const HEAD: [&str; 8] =
    ["SERVER", "VERSION", "ITEMS", "USED", "LIMIT", "HITS", "EVICTED", "CONNECTIONS"];
