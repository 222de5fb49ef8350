//! `task push`: a task of this program's, or any other that some worker knows.

use std::{process::ExitCode, time::Duration};

use clap::ArgMatches;
use serde_json::{Value, json};
use throng_queue::{Message, Queue};

use super::{tell, wait, word};
use crate::{Error, cli::Failure, task::Kind};

pub(super) async fn run(
    queue: &Queue,
    kinds: &[Kind],
    matches: &ArgMatches,
) -> Result<ExitCode, Failure> {
    let name = word(matches, "name");
    let arguments = arguments(&word(matches, "arguments"))?;
    let mut message = match (kinds.iter().find(|kind| kind.name == name), named_queue(matches)) {
        (Some(kind), _) => {
            (kind.read)(arguments).map_err(|error| Failure::Usage(error.to_string()))?
        }
        (None, Some(_)) => Message::new(&name, arguments).map_err(Error::from)?,
        (None, None) => return Err(unknown(&name, kinds)),
    };
    if let Some(queue) = named_queue(matches) {
        message = message.queue(queue);
    }
    if let Some(delay) = matches.get_one::<u64>("delay") {
        message = message.delay(Duration::from_secs(*delay));
    }
    if let Some(priority) = matches.get_one::<u8>("priority") {
        message = message.priority(*priority);
    }
    let id = queue.push(message).await.map_err(Error::from)?;
    let is_json = matches.get_flag("json");
    if let Some(limit) = matches.get_one::<u64>("wait") {
        return Ok(wait(queue, &id, *limit, is_json).await?);
    }
    tell(is_json, json!({ "id": id }), &id);
    Ok(ExitCode::SUCCESS)
}

/// Arguments as they are given in a shell.
pub(super) fn arguments(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::Usage(format!("the arguments `{text}` are not JSON: {error}")))
}

fn named_queue(matches: &ArgMatches) -> Option<&String> {
    matches.get_one::<String>("queue")
}

/// A name that nobody here knows is a typing error, unless it is said where it goes.
fn unknown(name: &str, kinds: &[Kind]) -> Failure {
    let known: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.name)).collect();
    let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
    Failure::Usage(format!(
        "no task is called `{name}`; this program has: {known}. For another program's worker, name \
         its queue with --queue"
    ))
}
