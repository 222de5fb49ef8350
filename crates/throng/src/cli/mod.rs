//! The command line: roles, `migrate`, `config`, `cache`, `task`, and the site's own commands.
//!
//! Exit codes: 0 done, 1 something failed while running, 2 wrong usage or config, nothing started.

mod cache;
mod config;
mod db;
#[cfg(feature = "edge")]
mod edge;
mod flag;
mod migrate;
mod own;
mod print;
mod spec;
mod task;
mod worker;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::ArgMatches;

use crate::{
    App, Config, Error,
    start::{self, Process, ROLES, Role, StartError},
};

pub(crate) use print::say;

/// Why a command did not succeed.
pub(crate) enum Failure {
    /// Nothing was started. Exit code 2.
    Start(StartError),
    /// What was asked is wrong in itself. Exit code 2.
    Usage(String),
    /// Something failed. Exit code 1.
    Run(Error),
}

impl App {
    /// Does what the command line says; all roles in this process when it says nothing.
    ///
    /// Exit codes: 0 done, 1 failed while running, 2 wrong usage or config and nothing started.
    #[must_use = "return it from `main`"]
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// As [`App::run`], with these arguments rather than the process's; the first is the program.
    #[must_use = "return it from `main`"]
    pub fn run_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let name = self.name;
        let matches = match spec::of(&self).try_get_matches_from(arguments) {
            Ok(matches) => matches,
            Err(error) => {
                let _ = error.print();
                return if error.use_stderr() { wrong() } else { ExitCode::SUCCESS };
            }
        };
        let (words, code) = match dispatch(self, &matches) {
            Ok(code) => return code,
            Err(Failure::Start(error)) => (error.to_string(), wrong()),
            Err(Failure::Usage(words)) => (words, wrong()),
            Err(Failure::Run(error)) => (error.to_string(), ExitCode::FAILURE),
        };
        print::complain(name, &words);
        code
    }

    /// The whole command line as `clap` knows it: for manuals and shell completions.
    #[must_use]
    pub fn command_line(&self) -> clap::Command {
        spec::of(self)
    }
}

fn dispatch(app: App, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let file = matches.get_one::<OsString>("config").map(Path::new);
    let load = || Config::load(file).map_err(|error| Failure::Start(error.into()));
    let Some((name, matches)) = matches.subcommand() else {
        return serve(app, load()?, ROLES.iter().collect());
    };
    if let Some(role) = ROLES.iter().find(|role| role.name == name) {
        let config = match role.name {
            "worker" => worker::choose(&app, load()?, matches)?,
            _ => load()?,
        };
        return serve(app, config, vec![role]);
    }
    match name {
        "cache" => cache::run(&load()?, matches),
        "config" => config::run(matches, load),
        "db" => db::run(&app, load, matches),
        #[cfg(feature = "edge")]
        "edge" => edge::run(&load()?, matches),
        "migrate" => migrate::run(app, load()?, matches),
        "task" => task::run(app, load()?, matches),
        _ => own::run(app, load()?, name, matches),
    }
}

fn serve(app: App, config: Config, roles: Vec<&'static Role>) -> Result<ExitCode, Failure> {
    let process = Process::prepare(app, config, roles)?;
    Ok(runtime()?.block_on(start::run(process))?)
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|source| StartError::System { doing: "start threads", source })
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

/// The exit code for wrong usage or config.
fn wrong() -> ExitCode {
    ExitCode::from(2)
}
