//! `config`: what is in effect, and where it comes from.

use std::process::ExitCode;

use clap::ArgMatches;

use super::{Failure, say};
use crate::{Config, config};

pub(super) fn run(
    matches: &ArgMatches,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<ExitCode, Failure> {
    if matches.get_flag("reference") {
        say(config::reference().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let config = load()?;
    if matches.get_flag("json") {
        say(format_args!("{:#}", config::to_json(&config)));
    } else {
        say(config::to_toml(&config).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
