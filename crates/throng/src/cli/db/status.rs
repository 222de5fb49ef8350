//! `db status`: the servers, how far each has got, and where the reads go.

use std::{
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use throng_core::EngineUrl;
use throng_db::{Server, Status};

use super::{Failure, open, processes, runtime, url_argument};
use crate::{
    cli::{flag::flag, print::table, say},
    start::report,
};

pub(super) fn spec(name: &str) -> Command {
    Command::new("status")
        .about("Show the database's servers: roles, positions, lag, connections, reads")
        .long_about(
            "Show the database's servers: roles, positions, lag, connections, reads\n\nFirst what the \
             servers tell, of all processes of the site: `connections` are those of throng, in use \
             and open; `rows/s` is what the server read from the site's tables in the last second, \
             and `share` its part of all.\n\nThen what the site's processes tell that run with this \
             data folder: their pools, and how many reads and writes they have sent where and why \
             since they started. With --url they are not asked.\n\nExit code: 0 when there is a primary and \
             every replica serves, 1 when not, 2 for wrong usage.",
        )
        .arg(url_argument())
        .arg(flag("json", "Print JSON; with --watch, a line each second"))
        .arg(flag("watch", "Show it again each second, until stopped"))
        .after_help(format!(
            "Examples:\n  {name} db status\n  {name} db status --watch\n  {name} db status --json | jq \
             '.processes[] | .pid, (.database.servers[] | .name, .routes)'"
        ))
}

/// `data` is the folder of the processes to ask, if any.
pub(super) fn run(
    url: &EngineUrl,
    data: Option<&Path>,
    matches: &ArgMatches,
) -> Result<ExitCode, Failure> {
    let (is_json, is_watch) = (matches.get_flag("json"), matches.get_flag("watch"));
    runtime()?.block_on(async {
        let db = open(url).await?;
        let mut before = db.survey().await;
        loop {
            tokio::time::sleep(SECOND).await;
            let now = db.survey().await;
            let processes = match data {
                Some(data) => Some(report::all(data).await),
                None => None,
            };
            if is_json {
                let mut seen = as_json(&before, &now);
                seen["processes"] = json!(processes);
                say(if is_watch { format!("{seen}") } else { format!("{seen:#}") });
            } else {
                show(&before, &now, is_watch && io::stdout().is_terminal());
                if let Some(processes) = &processes {
                    say("");
                    processes::show(processes);
                }
            }
            if !is_watch {
                db.close().await;
                return Ok(if is_well(&now) { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            before = now;
        }
    })
}

/// Whether nobody has to do anything.
fn is_well(status: &Status) -> bool {
    let is_well = |server: &Server| match server.role {
        "primary" | "reporting" => true,
        "replica" => server.serves_reads,
        _ => false,
    };
    !status.read_only && status.servers.iter().all(is_well)
}

fn show(before: &Status, now: &Status, clears: bool) {
    if clears {
        // Home, and clear what is below.
        say(format_args!("\x1b[H\x1b[J{}", now.database));
    } else {
        say(&now.database);
    }
    let state = match (now.read_only, is_well(now)) {
        (true, _) => "READ-ONLY: writes are refused",
        (_, false) => "writes are taken; not every server is well",
        _ => "all is well",
    };
    say(state);
    say("");
    let head =
        ["server", "role", "serves", "position", "lag", "behind", "connections", "rows/s", "share"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let rates = rates(before, now);
    let all: f64 = rates.iter().flatten().sum();
    for (server, rate) in now.servers.iter().zip(&rates) {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let connections =
            server.connections.map(|open| format!("{}/{open}", server.active.unwrap_or(0)));
        rows.push(vec![
            server.name.clone(),
            server.role.to_owned(),
            if server.serves_reads { "reads" } else { "-" }.to_owned(),
            or_dash(server.position.clone()),
            format!("{} ms", server.lag_ms),
            server.behind.to_string(),
            or_dash(connections),
            or_dash(rate.map(|rate| format!("{rate:.0}"))),
            or_dash(rate.filter(|_| all > 0.0).map(|rate| format!("{:.0} %", rate / all * 100.0))),
        ]);
    }
    table(&rows);
}

fn as_json(before: &Status, now: &Status) -> Value {
    let mut seen = json!(now);
    seen["is_well"] = json!(is_well(now));
    if let Some(servers) = seen["servers"].as_array_mut() {
        for (server, rate) in servers.iter_mut().zip(rates(before, now)) {
            server["rows_read_per_s"] = json!(rate);
            // Those of this command say nothing about the site's.
            if let Some(server) = server.as_object_mut() {
                for name in ["in_use", "idle", "size", "waiting", "reads", "writes", "routes"] {
                    server.remove(name);
                }
            }
        }
    }
    seen
}

/// Rows that each server has read in a second.
fn rates(before: &Status, now: &Status) -> Vec<Option<f64>> {
    let pairs = now.servers.iter().zip(&before.servers);
    let rate = |(now, before): (&Server, &Server)| {
        let rows = now.rows_read?.checked_sub(before.rows_read?)?;
        Some(rows as f64 / SECOND.as_secs_f64())
    };
    pairs.map(rate).collect()
}

const SECOND: Duration = Duration::from_secs(1);
