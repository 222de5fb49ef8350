//! `db promote`: makes the most advanced standby the primary, when the primary is gone.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use serde_json::json;
use throng_core::EngineUrl;
use throng_db::promote;

use super::{Failure, of_db, runtime, url_argument};
use crate::cli::{flag::flag, say};

pub(super) fn spec(name: &str) -> Command {
    Command::new("promote")
        .about("Make the most advanced standby the primary, when the primary is gone")
        .long_about(
            "Make the most advanced standby the primary, when the primary is gone\n\nIt first checks \
             that no server of the URL is a primary, that no more than one is silent, and that no \
             standby still receives; until then nothing is changed. Then the standby that has \
             received the most applies all of it and takes writes, and the others follow it. The \
             site finds it by itself within a second.\n\nNo acknowledged commit is lost where the \
             old primary waited for a standby at each commit: `synchronous_standby_names = 'ANY 1 \
             (...)'` on PostgreSQL, semi-synchronous replication on MariaDB.\n\nThe URL's user must be \
             allowed to: a superuser on PostgreSQL; REPLICA MONITOR, REPLICATION SLAVE ADMIN and \
             READ_ONLY ADMIN on MariaDB.\n\nExit code: 0 done, 1 refused or failed, 2 wrong usage.",
        )
        .arg(url_argument())
        .arg(flag("json", "Print JSON"))
        .after_help(format!(
            "Examples:\n  {name} db promote\n  {name} db promote --url \
             postgres://postgres:secret@db1,db2,db3/site"
        ))
}

pub(super) fn run(url: &EngineUrl, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let done = runtime()?.block_on(promote(url)).map_err(of_db)?;
    if matches.get_flag("json") {
        say(format_args!("{:#}", json!(done)));
    } else {
        let (name, position, took_ms) = (&done.name, &done.position, done.took_ms);
        say(format_args!("{name} is the primary now, from {position} on ({took_ms} ms)"));
        for follower in &done.followers {
            say(format_args!("{follower} follows it"));
        }
        for (standby, reason) in &done.left_behind {
            say(format_args!("{standby} does NOT follow it: {reason}"));
        }
        say("do not start the old primary as it is: make a standby of it first (docs/db.md)");
    }
    Ok(if done.left_behind.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
