//! The site's own commands: run with every room open.

use std::process::ExitCode;

use clap::ArgMatches;
use throng_core::{Clock, Shutdown};

use super::{Failure, runtime};
use crate::{
    App, Config,
    start::{Means, Migrate, StartError, Works, check_data, claim_ids, log},
};

pub(super) fn run(
    mut app: App,
    config: Config,
    name: &str,
    matches: &ArgMatches,
) -> Result<ExitCode, Failure> {
    let Some(own) = app.take_command(name) else {
        return Err(Failure::Usage(format!("there is no command `{name}`")));
    };
    let ready = (own.read)(matches).map_err(|error| Failure::Usage(error.to_string()))?;
    runtime()?.block_on(async {
        let works = open(app, config).await?;
        let done = ready(works.door.site().ctx()).await;
        works.close().await;
        Ok(done.map(|()| ExitCode::SUCCESS)?)
    })
}

/// Opens the rooms for a command: as for serving, without roles. The log says what goes wrong only,
/// unless `log.level` was set: the output belongs to the command.
pub(super) async fn open(app: App, config: Config) -> Result<Works, StartError> {
    log::start(&config.log_of_command())?;
    check_data(&config.data)?;
    let config = config.with_secret_key()?;
    let clock = Clock::system();
    let ids = claim_ids(&config, &clock)?;
    // The trigger is dropped with the process: a command is stopped by its terminal.
    let (trigger, shutdown) = Shutdown::pair();
    let migrate = if config.is_production() { Migrate::Refuse } else { Migrate::Apply };
    let means = Means { clock, ids, shutdown, handover: None };
    let (mut works, _) = app.open(config, means, migrate).await?;
    works.kept = Some(trigger);
    Ok(works)
}
