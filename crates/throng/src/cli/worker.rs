//! What one worker takes on: `worker --queues mail,images --tasks 'mail.*' --not mail.slow`.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use throng_core::stars;
use throng_queue::Signal;

use super::Failure;
use crate::{App, Config};

/// `worker` with its flags, each before the key of the config that means the same.
pub(super) fn spec(command: Command, name: &str) -> Command {
    let list = |id: &'static str, value: &'static str, help: &'static str| {
        let arg = Arg::new(id).long(id).value_name(value).help(help);
        arg.action(ArgAction::Append).value_delimiter(',')
    };
    let concurrency = Arg::new("concurrency").long("concurrency").value_name("N");
    command
        .arg(list("queues", "QUEUES", "Take tasks from these queues alone [default: all]"))
        .arg(list("tasks", "NAMES", "Run these tasks alone; `*` stands for any text"))
        .arg(list("not", "NAMES", "Leave these tasks to other workers"))
        .arg(
            concurrency
                .value_parser(value_parser!(u16).range(1..=10_000))
                .help("Run so many tasks at once [default: `worker.concurrency` of the config]"),
        )
        .after_help(format!(
            "Examples:\n  {name} worker --config /etc/{name}.toml\n  {name} worker --queues mail,images \
             --concurrency 32\n  {name} worker --tasks 'mail.*' --not mail.newsletter\n\nBeside it runs \
             at least one `{name} web`; both need engines that processes share. What no worker takes \
             waits."
        ))
}

/// Puts what the flags say in place of what the config says. A name that none of the program's tasks
/// has is a typing error.
pub(super) fn choose(
    app: &App,
    mut config: Config,
    matches: &ArgMatches,
) -> Result<Config, Failure> {
    let chosen = [
        ("queues", &mut config.queues),
        ("tasks", &mut config.tasks),
        ("not", &mut config.not_tasks),
    ];
    for (flag, list) in chosen {
        if let Some(words) = matches.get_many::<String>(flag) {
            let words = words.map(|word| word.trim()).filter(|word| !word.is_empty());
            *list = words.map(str::to_owned).collect();
        }
    }
    if let Some(concurrency) = matches.get_one::<u16>("concurrency") {
        config.concurrency = usize::from(*concurrency);
    }
    let known = names(app);
    for (flag, patterns) in [("tasks", &config.tasks), ("not", &config.not_tasks)] {
        let fits = |pattern: &&String| known.iter().any(|name| stars::matches(pattern, name));
        if let Some(pattern) = patterns.iter().find(|pattern| !fits(pattern)) {
            let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::Usage(format!(
                "`worker.{flag}` (`--{flag}`) names `{pattern}`, which is no task of this program; it \
                 has: {known}"
            )));
        }
    }
    Ok(config)
}

/// The names of all tasks that a worker of `app` runs, in their order.
fn names(app: &App) -> Vec<String> {
    let tasks = app.tasks.iter().map(|kind| kind.name.to_owned());
    let counters = app.counters.iter().map(|counting| counting.name.to_owned());
    let receivers = app.receivers.iter().map(|hearing| Signal::task_of(hearing.name));
    let signal = (!app.receivers.is_empty()).then(|| Signal::TASK.to_owned());
    let mut names: Vec<String> = tasks.chain(counters).chain(receivers).chain(signal).collect();
    names.sort_unstable();
    names
}
