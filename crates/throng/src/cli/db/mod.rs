//! `db`: looks at the database's servers, promotes one of them, copies a site from one to another.

mod copy;
mod processes;
mod promote;
mod status;

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use throng_core::EngineUrl;
use throng_db::{Db, Kind};

use super::{Failure, runtime};
use crate::{
    App, Config, Error,
    start::{log, of_room},
};

pub(super) fn spec(name: &str) -> Command {
    Command::new("db")
        .about("Look at the database's servers, promote one, copy the data elsewhere")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(status::spec(name))
        .subcommand(promote::spec(name))
        .subcommand(copy::spec(name))
        .after_help(format!(
            "Examples:\n  {name} db status --watch\n  {name} db promote\n  {name} db copy \
             sqlite:data/site.db postgres://site:secret@db1/site"
        ))
}

pub(super) fn run(
    app: &App,
    load: impl FnOnce() -> Result<Config, Failure>,
    matches: &ArgMatches,
) -> Result<ExitCode, Failure> {
    let config = load()?;
    log::start(&config.log_of_command())?;
    match matches.subcommand() {
        Some(("status", matches)) => {
            let is_ours = !matches.contains_id("url");
            status::run(&url(&config, matches)?, is_ours.then_some(&*config.data), matches)
        }
        Some(("promote", matches)) => promote::run(&url(&config, matches)?, matches),
        Some(("copy", matches)) => copy::run(app, matches),
        _ => Err(Failure::Usage("say what to do: `status`, `promote` or `copy`".to_owned())),
    }
}

/// `--url`, for a database other than the site's.
fn url_argument() -> Arg {
    Arg::new("url")
        .long("url")
        .value_name("URL")
        .help("The database [default: `database.url` of the config]")
}

fn url(config: &Config, matches: &ArgMatches) -> Result<EngineUrl, Failure> {
    match matches.get_one::<String>("url") {
        Some(text) => parse(text),
        None => Ok(config.database.clone()),
    }
}

fn parse(text: &str) -> Result<EngineUrl, Failure> {
    EngineUrl::parse(text).map_err(|error| Failure::Usage(error.to_string()))
}

async fn open(url: &EngineUrl) -> Result<Db, Failure> {
    Db::open_with(url, throng_db::Config::default()).await.map_err(of_db)
}

/// What is wrong with the database now is exit code 1, what is wrong with the words 2.
fn of_db(error: throng_db::Error) -> Failure {
    match error {
        throng_db::Error::Url(error) => Failure::Usage(error.to_string()),
        error if error.kind() == Kind::Retry => Failure::Run(Error::internal(error)),
        throng_db::Error::Query { .. }
        | throng_db::Error::Copy(_)
        | throng_db::Error::CopyTable { .. } => Failure::Run(Error::internal(error)),
        error => Failure::Start(of_room("database.url", error)),
    }
}
