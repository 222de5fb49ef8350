//! Where log lines go: standard error, as text for people or JSON for machines.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::{config, start::StartError};

/// Starts logging for the whole process, panics included.
pub(crate) fn start(config: &config::Log) -> Result<(), StartError> {
    let filter = EnvFilter::builder().parse(&config.level).map_err(|error| StartError::System {
        doing: "read `log.level`",
        source: io::Error::other(error),
    })?;
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    // When nobody reads standard error any more, a complaint there about it would end the process.
    let lines = lines.log_internal_errors(false);
    let is_colourful = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = if config.is_json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(is_colourful).try_init()
    };
    // Somebody who runs several apps in one process has a log already.
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let at = panic.location().map_or(String::new(), |at| format!(" at {at}"));
            let words = panic.payload_as_str().unwrap_or("no words");
            tracing::error!("panicked{at}: {words}");
        }));
    }
    Ok(())
}
