//! What the command line takes, with help and examples.

use std::ffi::OsString;

use clap::{Arg, Command, value_parser};

use super::{cache, db, flag::flag, task, worker};
use crate::{App, start::ROLES};

/// The command line of `app`.
pub(super) fn of(app: &App) -> Command {
    let name = app.name;
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .global(true)
        .value_parser(value_parser!(OsString))
        .help("The config file [default: throng.toml, if it is there]");
    let mut command = Command::new(name)
        .about(app.about)
        .arg(file)
        .subcommand_value_name("COMMAND")
        .disable_help_subcommand(true)
        .long_about(format!(
            "{}\n\nWithout a command, every role runs in this process.",
            app.about
        ))
        .after_help(format!(
            "Examples:\n  \
             {name}                    run everything, on http://127.0.0.1:8000 unless configured\n  \
             {name} web                answer visitors only\n  \
             {name} config             show what is configured, and where\n  \
             THRONG_WEB_LISTEN=0.0.0.0:80 {name}\n\n\
             Signals: TERM and INT stop once what is under way is done; HUP restarts without losing a \
             connection."
        ));
    for role in ROLES {
        let spec = Command::new(role.name).about(role.about);
        command = command.subcommand(match role.name {
            "worker" => worker::spec(spec, name),
            _ => spec.after_help(format!(
                "Example:\n  {name} {} --config /etc/{name}.toml\n\nBeside it runs at least one \
                 `{name} worker`; both need engines that processes share.",
                role.name
            )),
        });
    }
    command = command.subcommand(
        Command::new("migrate")
            .about("Bring the database's tables up to this program")
            .arg(flag("plan", "Show what is missing and change nothing"))
            .arg(flag("json", "Print JSON"))
            .after_help(format!("Examples:\n  {name} migrate --plan\n  {name} migrate")),
    );
    command = command.subcommand(
        Command::new("config")
            .about("Show the config that is in effect and where each value comes from")
            .arg(flag("json", "Print JSON"))
            .arg(
                flag("reference", "Print the reference of all keys instead").conflicts_with("json"),
            )
            .after_help(format!(
                "Examples:\n  {name} config\n  {name} config --json | jq '.[] | select(.source != \
                 \"default\")'\n  {name} config --reference > config.md"
            )),
    );
    command = command.subcommand(cache::spec(name));
    command = command.subcommand(db::spec(name));
    command = command.subcommand(task::spec(name));
    #[cfg(feature = "edge")]
    {
        command = command.subcommand(super::edge::spec(name));
    }
    for own in &app.commands {
        command = command.subcommand(own.spec.clone());
    }
    command
}
