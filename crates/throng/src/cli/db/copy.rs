//! `db copy`: a site's data from one database to another, of any engine, every row compared.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use throng_db::{Copied, Copy, Progress};

use super::{Failure, of_db, parse, runtime};
use crate::{
    App,
    cli::{flag::flag, say},
};

pub(super) fn spec(name: &str) -> Command {
    let url = |id, help| Arg::new(id).value_name(id).required(true).help(help);
    Command::new("copy")
        .about("Copy the site's data to a new database of any engine, and compare every row")
        .long_about(
            "Copy the site's data to a new database of any engine, and compare every row\n\nStop the \
             site first, or make it read-only: what is written after the start stays \
             behind. The target must be new; its tables are made by this program. Rows \
             go over in batches, counters and foreign keys are set, then all rows of both sides are \
             compared.\n\nThe source is never changed. A copy that is stopped or killed loses nothing: \
             the same command goes on where it was, and until it has ended well no site starts on \
             the target. Files outside the database, such as mail in the data folder, stay where \
             they are.\n\nExit code: 0 copied and equal, 1 not, 2 wrong usage.",
        )
        .arg(url("FROM", "The database that is read, such as sqlite:data/site.db"))
        .arg(url("TO", "A new, empty database"))
        .arg(
            Arg::new("skip")
                .long("skip")
                .value_name("TABLE")
                .action(ArgAction::Append)
                .help("Leave out a table, such as another program's; may be given again"),
        )
        .arg(flag("json", "Print JSON at the end"))
        .after_help(format!(
            "Examples:\n  {name} db copy sqlite:data/site.db \
             postgres://site:secret@db1,db2,db3/site\n  {name} db copy mariadb://site:secret@db9/site \
             sqlite:data/site.db"
        ))
}

pub(super) fn run(app: &App, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let (from, to) = (parse(text("FROM"))?, parse(text("TO"))?);
    let skip: Vec<String> = matches.get_many("skip").unwrap_or_default().cloned().collect();
    let migrations = app.all_migrations();
    let copy = Copy { from: &from, to: &to, migrations: &migrations, skip: &skip };
    // It draws on a terminal only.
    let bar = ProgressBar::new(0).with_style(style());
    let done = runtime()?.block_on(copy.run(&mut |progress: Progress<'_>| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        let doing = if progress.is_check { "compare" } else { "copy" };
        bar.set_message(format!("{doing} {}", progress.table));
    }));
    bar.finish_and_clear();
    let done = done.map_err(of_db)?;
    if matches.get_flag("json") {
        say(format_args!("{:#}", json!(done)));
    } else {
        tell(&done);
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(done: &Copied) {
    for table in &done.tables {
        say(format_args!("{:>12} rows  {}", table.rows, table.name));
    }
    let seconds = done.took_ms as f64 / 1000.0;
    let before = match done.rows_before {
        0 => String::new(),
        rows => format!(", {rows} of them by an earlier run"),
    };
    say(format_args!(
        "copied {} rows of {} tables in {seconds:.1} s{before}; each was compared and is equal",
        done.rows,
        done.tables.len()
    ));
}

fn style() -> ProgressStyle {
    let template = "{bar:30} {percent:>3} %  {pos}/{len} rows  {eta} left  {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
