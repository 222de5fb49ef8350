//! `task retry`: dead letters and their like again, as they were or with other arguments.

use std::process::ExitCode;

use clap::ArgMatches;
use serde_json::{Map, Value, json};
use throng_queue::{Filter, Queue, State, TaskId};

use super::{push, tell};
use crate::{Error, Result, cli::Failure};

pub(super) async fn run(queue: &Queue, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let is_json = matches.get_flag("json");
    let ids: Vec<TaskId> = matches
        .get_many::<String>("id")
        .unwrap_or_default()
        .map(|id| TaskId::from(id.as_str()))
        .collect();
    if matches.get_flag("dead") {
        let count = all_dead(queue, matches).await?;
        tell(is_json, json!({"queued": count}), format_args!("queued {count} dead letters"));
        return Ok(ExitCode::SUCCESS);
    }
    let edited = matches.get_one::<String>("arguments").map(|text| push::arguments(text));
    let edited = edited.transpose()?;
    if edited.is_some() && ids.len() != 1 {
        return Err(Failure::Usage("--arguments is for one task at a time".to_owned()));
    }
    for id in &ids {
        match &edited {
            Some(arguments) => {
                let (args, kwargs) = sides(arguments.clone());
                queue.edit(id, args, kwargs).await.map_err(Error::from)?;
            }
            None => queue.retry(id).await.map_err(Error::from)?,
        }
        tell(is_json, json!({"id": id, "state": "queued"}), format_args!("{id} queued"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Positional and keyword arguments, as `task push` reads them.
fn sides(arguments: Value) -> (Vec<Value>, Map<String, Value>) {
    match arguments {
        Value::Object(kwargs) => (Vec::new(), kwargs),
        Value::Array(args) => (args, Map::new()),
        Value::Null => (Vec::new(), Map::new()),
        only => (vec![only], Map::new()),
    }
}

/// Every dead letter of a queue or name, or all.
async fn all_dead(queue: &Queue, matches: &ArgMatches) -> Result<u64, Error> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let state = Some(State::Dead);
    let filter = Filter { queue: text("queue"), name: text("name"), state, limit: AT_ONCE };
    let mut count = 0;
    loop {
        let dead = queue.list(&filter).await?;
        // A list has the newest first; what died first runs first.
        for record in dead.iter().rev() {
            queue.retry(&record.id()).await?;
            count += 1;
        }
        // One that dies again meanwhile is for the next command.
        if dead.len() < AT_ONCE as usize {
            return Ok(count);
        }
    }
}

const AT_ONCE: u64 = 500;
