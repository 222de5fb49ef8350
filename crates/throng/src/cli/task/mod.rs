//! `task`: push tasks and look at what became of them.

mod show;
mod spec;

use std::{process::ExitCode, time::Duration};

use clap::ArgMatches;
use serde_json::{Value, json};
use throng_queue::{Filter, Queue, State, TaskId};

pub(super) use spec::spec;

use super::{Failure, own, print::table, runtime, say};
use crate::{App, Config, Error, Result, task::Kind};

pub(super) fn run(mut app: App, config: Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some((verb, matches)) = matches.subcommand() else {
        return Err(Failure::Usage("`task` wants to know what to do".to_owned()));
    };
    let kinds = std::mem::take(&mut app.tasks);
    runtime()?.block_on(async {
        let works = own::open(app, config).await?;
        let queue = works.door.site().0.queue.clone();
        let done = match verb {
            "push" => push(&queue, &kinds, matches).await,
            _ => ask(&queue, verb, matches).await.map_err(Failure::Run),
        };
        works.close().await;
        done
    })
}

async fn push(queue: &Queue, kinds: &[Kind], matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let name = word(matches, "name");
    let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
        let known: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.name)).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        return Err(Failure::Usage(format!(
            "no task is called `{name}`; this program has: {known}"
        )));
    };
    let text = word(matches, "arguments");
    let arguments: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::Usage(format!("the arguments `{text}` are not JSON: {error}")))?;
    let mut message = (kind.read)(arguments)
        .map_err(|error| Failure::Usage(format!("wrong arguments for task `{name}`: {error}")))?;
    if let Some(delay) = matches.get_one::<u64>("delay") {
        message = message.delay(Duration::from_secs(*delay));
    }
    let id = queue.push(message).await.map_err(Error::from)?;
    if let Some(limit) = matches.get_one::<u64>("wait") {
        return Ok(wait(queue, &id, *limit, matches.get_flag("json")).await?);
    }
    if matches.get_flag("json") {
        say(json!({ "id": id }))
    } else {
        say(&id)
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(queue: &Queue, verb: &str, matches: &ArgMatches) -> Result<ExitCode> {
    match verb {
        "list" => {
            let state = matches.get_one::<String>("state").and_then(|state| state.parse().ok());
            let name = matches.get_one::<String>("name").cloned();
            list(queue, Filter { state, name, ..filter(matches) }, matches).await?;
        }
        "dead" => {
            let dead = Filter { state: Some(State::Dead), ..filter(matches) };
            list(queue, dead, matches).await?;
        }
        "counts" => counts(queue, matches.get_flag("json")).await?,
        "show" => {
            let record = queue.find(&task_id(matches)).await?;
            if matches.get_flag("json") {
                say(format_args!("{:#}", show::json(&record)));
            } else {
                say(show::text(&record).trim_end());
            }
        }
        "wait" => {
            let limit = matches.get_one::<u64>("wait").copied().unwrap_or(60);
            return wait(queue, &task_id(matches), limit, matches.get_flag("json")).await;
        }
        "retry" | "cancel" => {
            for id in matches.get_many::<String>("id").into_iter().flatten() {
                let id = TaskId::from(id.as_str());
                match verb {
                    "retry" => queue.retry(&id).await?,
                    _ => queue.cancel(&id).await?,
                }
                say(format_args!("{id} {}", if verb == "retry" { "queued" } else { "cancelled" }));
            }
        }
        "purge" => {
            let state: State =
                word(matches, "state").parse().map_err(|error: String| Error::invalid(error))?;
            let count = queue.purge(&word(matches, "queue"), state).await?;
            say(format_args!("forgot {count} tasks"));
        }
        "pause" => queue.pause(&word(matches, "queue")).await?,
        "resume" => queue.resume(&word(matches, "queue")).await?,
        _ => return Err(Error::invalid(format!("`task` has no `{verb}`"))),
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(queue: &Queue, filter: Filter, matches: &ArgMatches) -> Result {
    let records = queue.list(&filter).await?;
    if matches.get_flag("json") {
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
