//! `migrate`: brings the tables up to the program.

use std::process::ExitCode;

use clap::ArgMatches;
use serde_json::json;
use throng_core::Clock;

use super::{Failure, runtime, say};
use crate::{
    App, Config,
    start::{check_data, of_room, open_db},
};

pub(super) fn run(app: App, config: Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    check_data(&config.data)?;
    let (is_plan, is_json) = (matches.get_flag("plan"), matches.get_flag("json"));
    let migrations = app.all_migrations();
    let names = runtime()?.block_on(async {
        let db = open_db(&config, &Clock::system()).await?;
        let names = if is_plan {
            db.pending(&migrations).await
        } else {
            db.migrate(&migrations).await.map(|applied| applied.names)
        };
        db.close().await;
        names.map_err(|error| of_room("database.url", error))
    })?;
    let done = if is_plan { "pending" } else { "applied" };
    if is_json {
        say(json!({ done: names }));
        return Ok(ExitCode::SUCCESS);
    }
    for name in &names {
        say(format_args!("{done} {name}"));
    }
    if names.is_empty() {
        say("nothing to do: the database has every migration of this program");
    }
    Ok(ExitCode::SUCCESS)
}
