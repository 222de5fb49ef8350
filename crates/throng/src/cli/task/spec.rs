//! What `task` takes, with help and examples.

use clap::{Arg, ArgAction, Command, value_parser};
use throng_queue::State;

use crate::cli::flag::flag;

pub(crate) fn spec(name: &'static str) -> Command {
    let id = || Arg::new("id").value_name("ID").required(true).help("The task's id");
    let ids = || id().action(ArgAction::Append).help("The tasks' ids");
    let json = || flag("json", "Print JSON");
    let wait_s =
        || Arg::new("wait").long("wait").value_name("SECONDS").value_parser(value_parser!(u64));
    let queue = || Arg::new("queue").long("queue").value_name("QUEUE").help("Only this queue");
    let only_name =
        || Arg::new("name").long("name").value_name("NAME").help("Only tasks of this name");
    let limit = || {
        let limit = Arg::new("limit").long("limit").value_name("N").default_value("50");
        limit.value_parser(value_parser!(u64)).help("At most this many, newest first")
    };
    let state = || {
        let words = State::ALL.map(State::as_str);
        Arg::new("state").long("state").value_name("STATE").value_parser(words)
    };
    Command::new("task")
        .about("Push tasks, and look at what became of them")
        .subcommand_required(true)
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .global(true)
                .help("Another queue: redis://, amqp://, sqlite:, postgres://… [default: the site's]"),
        )
        .after_help(format!(
            "Examples:\n  {name} task list --state dead\n  {name} task counts --url \
             redis://celery:6379/0\n  {name} task push NAME '{{\"field\": 1}}' --wait 30\n\nExit code: 0 \
             done, 1 failed or not found, 2 wrong usage."
        ))
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("push")
                .about("Push a task")
                .arg(Arg::new("name").value_name("NAME").required(true).help("The task's name"))
                .arg(
                    Arg::new("arguments")
                        .value_name("JSON")
                        .default_value("null")
                        .help("Its fields as a JSON object, or positional arguments as an array"),
                )
                .arg(
                    Arg::new("queue")
                        .long("queue")
                        .value_name("QUEUE")
                        .help("Its queue; wanted for a task that this program does not have"),
                )
                .arg(
                    Arg::new("priority")
                        .long("priority")
                        .value_name("0-9")
                        .value_parser(value_parser!(u8).range(0..=9))
                        .help("Higher runs first"),
                )
                .arg(
                    Arg::new("delay")
                        .long("delay")
                        .value_name("SECONDS")
                        .value_parser(value_parser!(u64))
                        .help("Run it this much later"),
                )
                .arg(wait_s().help("Wait this long for it to finish; exit code 1 if it fails"))
                .arg(json())
                .after_help(format!(
                    "Examples:\n  {name} task push mail_ticket '{{\"order\": 7}}'\n  {name} task push \
                     mail_ticket '{{\"order\": 7}}' --wait 30\n  {name} task push shop.tasks.add '[2, 3]' \
                     --queue celery --url redis://celery:6379/0"
                )),
        )
        .subcommand(
            Command::new("list")
                .about("List tasks, newest first")
                .arg(queue())
                .arg(state().help("Only tasks in this state"))
                .arg(only_name())
                .arg(limit())
                .arg(json())
                .after_help(format!("Example:\n  {name} task list --state running")),
        )
        .subcommand(
            Command::new("dead")
                .about("List tasks that failed for good, with the reason")
                .arg(queue())
                .arg(limit())
                .arg(json())
                .after_help(format!("Example:\n  {name} task dead --limit 10")),
        )
        .subcommand(
            Command::new("counts")
                .about("Count the tasks of each queue and state")
                .arg(json())
                .after_help(format!("Example:\n  {name} task counts --json")),
        )
        .subcommand(
            Command::new("show")
                .about("Show everything about a task")
                .arg(id())
                .arg(json())
                .after_help(format!("Example:\n  {name} task show 0f9c…")),
        )
        .subcommand(
            Command::new("wait")
                .about("Wait until a task has finished; exit code 1 if it failed or takes longer")
                .arg(id())
                .arg(wait_s().default_value("60").help("How long to wait at most"))
                .arg(json())
                .after_help(format!("Example:\n  {name} task wait 0f9c… --wait 10")),
        )
        .subcommand(
            Command::new("retry")
                .about("Run tasks that are dead, parked, cancelled or waiting now, as if new")
                .arg(ids().required(false).required_unless_present("dead"))
                .arg(
                    Arg::new("arguments")
                        .long("arguments")
                        .value_name("JSON")
                        .help("With these arguments instead of its own"),
                )
                .arg(flag("dead", "All dead letters").conflicts_with_all(["id", "arguments"]))
                .arg(queue().requires("dead"))
                .arg(only_name().requires("dead"))
                .arg(json())
                .after_help(format!(
                    "Examples:\n  {name} task retry 0f9c…\n  {name} task retry 0f9c… --arguments \
                     '{{\"order\": 7}}'\n  {name} task retry --dead --name mail_ticket"
                )),
        )
        .subcommand(
            Command::new("cancel")
                .about("Take tasks back; those that run are stopped within seconds")
                .arg(ids())
                .arg(json())
                .after_help(format!("Example:\n  {name} task cancel 0f9c…")),
        )
        .subcommand(
            Command::new("purge")
                .about("Forget the tasks of a queue that are in one state")
                .arg(Arg::new("queue").value_name("QUEUE").required(true).help("The queue"))
                .arg(state().required(true).help("Which of its tasks"))
                .arg(json())
                .after_help(format!("Example:\n  {name} task purge default --state dead")),
        )
        .subcommand(
            Command::new("pause")
                .about("Stop handing out the tasks of a queue, until it is resumed")
                .arg(Arg::new("queue").value_name("QUEUE").required(true).help("The queue"))
                .arg(json())
                .after_help(format!("Example:\n  {name} task pause default")),
        )
        .subcommand(
            Command::new("resume")
                .about("Hand out the tasks of a paused queue again")
                .arg(Arg::new("queue").value_name("QUEUE").required(true).help("The queue"))
                .arg(json())
                .after_help(format!("Example:\n  {name} task resume default")),
        )
        .subcommand(super::transfer::spec(name))
}
