//! `task move`: the tasks of one engine to another.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use indicatif::ProgressBar;
use serde_json::json;
use throng_queue::{Moved, Queue, State};

use super::{open, word};
use crate::{
    Config, Error,
    cli::{Failure, flag::flag, say},
};

pub(super) fn spec(name: &str) -> Command {
    Command::new("move")
        .about("Move tasks from one queue engine to another")
        .long_about(
            "Move tasks from one queue engine to another\n\nWhat is ready, held back, parked or dead is \
             at the target under the same id, in its order, before it is forgotten at the source. A \
             move that is stopped or killed loses nothing: run it again, a minute later for what it \
             held. Workers may go on meanwhile. What runs and the records of what finished well \
             stay. A queue that is paused at the source hands out nothing: resume it \
             first.\n\nExit code: 0 moved, 1 not or not all, 2 wrong usage.",
        )
        .arg(url("from", "Where the tasks are [default: `queue.url` of the config]"))
        .arg(url("to", "Where they go [default: `queue.url` of the config]"))
        .arg(
            Arg::new("queue")
                .long("queue")
                .value_name("QUEUE")
                .action(ArgAction::Append)
                .help("Only this queue; may be given again. Celery's own on RabbitMQ are to be named"),
        )
        .arg(flag("json", "Print JSON at the end"))
        .after_help(format!(
            "Examples:\n  {name} task move --from redis://old:6379/0 --to amqp://one,two/\n  {name} \
             task move --from sqlite:data/site.db --to redis://cache:6379/0 --queue mail"
        ))
}

fn url(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).value_name("URL").help(help)
}

pub(super) async fn run(config: &Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    if matches.contains_id("url") {
        return Err(Failure::Usage("`task move` takes `--from` and `--to`, no `--url`".to_owned()));
    }
    let (from, to) = (word(matches, "from"), word(matches, "to"));
    if from.is_empty() && to.is_empty() {
        return Err(Failure::Usage("`task move` wants to know `--from` or `--to`".to_owned()));
    }
    let or_site = |text: String| if text.is_empty() { config.queue.reveal() } else { text };
    let source = open::queue(&or_site(from), config, false).await?;
    let target = open::queue(&or_site(to), config, true).await?;
    let named: Vec<String> = matches.get_many("queue").unwrap_or_default().cloned().collect();
    let queues = if named.is_empty() { busy(&source).await? } else { named };
    let is_json = matches.get_flag("json");
    let mut told = Vec::new();
    for queue in queues {
        let moved = one(&source, &target, &queue).await?;
        let Moved { queued, waiting, parked, dead, .. } = moved;
        if !is_json {
            say(format_args!(
                "{queue}: moved {queued} ready, {waiting} held back, {parked} parked, {dead} dead"
            ));
        }
        told.push(json!({
            "queue": queue, "ready": queued, "waiting": waiting, "parked": parked, "dead": dead,
        }));
    }
    if is_json {
        say(json!(told));
    } else if told.is_empty() {
        say("nothing to move");
    }
    Ok(ExitCode::SUCCESS)
}

/// Moves one queue; a terminal sees how far it is.
async fn one(source: &Queue, target: &Queue, queue: &str) -> Result<Moved, Error> {
    let bar = ProgressBar::new_spinner();
    let mut tell = |moved: Moved| {
        bar.tick();
        bar.set_message(format!("{queue}: {} moved", moved.total()));
    };
    let moved = source.move_to(target, queue, &mut tell).await;
    bar.finish_and_clear();
    Ok(moved?)
}

/// The queues that have something to move.
async fn busy(source: &Queue) -> Result<Vec<String>, Error> {
    let movable = [State::Queued, State::Waiting, State::Parked, State::Dead];
    let counts = source.counts().await?;
    let busy = counts.into_iter().filter(|count| movable.contains(&count.state) && count.tasks > 0);
    let mut queues: Vec<String> = busy.map(|count| count.queue).collect();
    queues.dedup();
    Ok(queues)
}
