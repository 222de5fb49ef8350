//! `task`: push tasks and look at what became of them.

mod open;
mod push;
mod retry;
mod show;
mod spec;
mod transfer;

use std::{fmt::Display, process::ExitCode, time::Duration};

use clap::ArgMatches;
use serde_json::{Value, json};
use throng_queue::{Filter, Queue, State, TaskId};

pub(super) use spec::spec;

use super::{Failure, own, print::table, runtime, say};
use crate::{App, Config, Error, Result, start::log, task::Kind};

pub(super) fn run(mut app: App, config: Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some((verb, matches)) = matches.subcommand() else {
        return Err(Failure::Usage("`task` wants to know what to do".to_owned()));
    };
    let kinds = std::mem::take(&mut app.tasks);
    runtime()?.block_on(async {
        if verb == "move" {
            log::start(&config.log_of_command())?;
            return transfer::run(&config, matches).await;
        }
        if let Some(url) = matches.get_one::<String>("url") {
            log::start(&config.log_of_command())?;
            let queue = open::queue(url, &config, verb == "push").await?;
            return act(&queue, &kinds, verb, matches).await;
        }
        let works = own::open(app, config).await?;
        let queue = works.door.site().0.queue.clone();
        let done = act(&queue, &kinds, verb, matches).await;
        works.close().await;
        done
    })
}

async fn act(
    queue: &Queue,
    kinds: &[Kind],
    verb: &str,
    matches: &ArgMatches,
) -> Result<ExitCode, Failure> {
    match verb {
        "push" => push::run(queue, kinds, matches).await,
        "retry" => retry::run(queue, matches).await,
        _ => ask(queue, verb, matches).await.map_err(Failure::Run),
    }
}

async fn ask(queue: &Queue, verb: &str, matches: &ArgMatches) -> Result<ExitCode> {
    let is_json = matches.get_flag("json");
    match verb {
        "list" => {
            let state = matches.get_one::<String>("state").and_then(|state| state.parse().ok());
            let name = matches.get_one::<String>("name").cloned();
            list(queue, Filter { state, name, ..filter(matches) }, is_json).await?;
        }
        "dead" => {
            let dead = Filter { state: Some(State::Dead), ..filter(matches) };
            list(queue, dead, is_json).await?;
        }
        "counts" => counts(queue, is_json).await?,
        "show" => {
            let record = queue.find(&task_id(matches)).await?;
            if is_json {
                say(format_args!("{:#}", show::json(&record)));
            } else {
                say(show::text(&record).trim_end());
            }
        }
        "wait" => {
            let limit = matches.get_one::<u64>("wait").copied().unwrap_or(60);
            return wait(queue, &task_id(matches), limit, is_json).await;
        }
        "cancel" => {
            for id in matches.get_many::<String>("id").into_iter().flatten() {
                queue.cancel(&TaskId::from(id.as_str())).await?;
                tell(
                    is_json,
                    json!({"id": id, "state": "cancelled"}),
                    format_args!("{id} cancelled"),
                );
            }
        }
        "purge" => {
            let state: State =
                word(matches, "state").parse().map_err(|error: String| Error::invalid(error))?;
            let count = queue.purge(&word(matches, "queue"), state).await?;
            tell(is_json, json!({"forgotten": count}), format_args!("forgot {count} tasks"));
        }
        "pause" => {
            queue.pause(&word(matches, "queue")).await?;
            paused(queue, is_json).await?;
        }
        "resume" => {
            queue.resume(&word(matches, "queue")).await?;
            paused(queue, is_json).await?;
        }
        _ => return Err(Error::invalid(format!("`task` has no `{verb}`"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Says which queues are paused now.
async fn paused(queue: &Queue, is_json: bool) -> Result {
    let paused = queue.paused().await?;
    let words = if paused.is_empty() { "none".to_owned() } else { paused.join(", ") };
    tell(is_json, json!({"paused": paused}), format_args!("paused now: {words}"));
    Ok(())
}

/// One line, for machines or for people.
fn tell(is_json: bool, json: Value, words: impl Display) {
    if is_json { say(json) } else { say(words) }
}

async fn list(queue: &Queue, filter: Filter, is_json: bool) -> Result {
    let records = queue.list(&filter).await?;
    if is_json {
        // One object a line, for `jq` and the like.
        records.iter().map(show::json).for_each(say);
        return Ok(());
    }
    let mut rows = vec![show::head()];
    rows.extend(records.iter().map(show::row));
    table(&rows);
    Ok(())
}

async fn counts(queue: &Queue, is_json: bool) -> Result {
    let counts = queue.counts().await?;
    if is_json {
        say(json!(counts));
        return Ok(());
    }
    let mut rows = vec![["QUEUE", "STATE", "TASKS"].map(str::to_owned).to_vec()];
    rows.extend(
        counts.iter().map(|count| {
            vec![count.queue.clone(), count.state.to_string(), count.tasks.to_string()]
        }),
    );
    table(&rows);
    Ok(())
}

/// Waits, and fails when the task did not come out well.
async fn wait(queue: &Queue, id: &TaskId, limit_s: u64, is_json: bool) -> Result<ExitCode> {
    let record = queue.wait(id, Duration::from_secs(limit_s)).await?;
    if is_json {
        say(show::json(&record));
    } else {
        say(format_args!("{id} {}{}", record.state, show::because(&record)));
    }
    let is_done = record.state == State::Done;
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn filter(matches: &ArgMatches) -> Filter {
    Filter {
        queue: matches.get_one::<String>("queue").cloned(),
        limit: matches.get_one::<u64>("limit").copied().unwrap_or(50),
        ..Filter::default()
    }
}

fn task_id(matches: &ArgMatches) -> TaskId {
    word(matches, "id").into()
}

/// The value of an argument that is required or has a default.
fn word(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}
