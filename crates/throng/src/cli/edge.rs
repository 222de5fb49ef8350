//! `edge`: stand before a site in any language.

use std::{process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use throng_core::{Clock, Secret, Shutdown};
use throng_edge::{AccessLog, Edge, Network, Upstream};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{Failure, runtime};
use crate::{
    Config, Error,
    start::{StartError, log},
};

pub(super) fn spec(name: &str) -> Command {
    let many = |name, value| Arg::new(name).long(name).value_name(value).action(ArgAction::Append);
    let one = |name, value| Arg::new(name).long(name).value_name(value);
    Command::new("edge")
        .about("Stand before a site: balance over its back ends and cache its pages")
        .arg(
            one("listen", "ADDRESS").default_value("127.0.0.1:8080").help("Where visitors come in"),
        )
        .arg(many("upstream", "URL").required(true).help("A back end; give it once for each"))
        .arg(one("check", "PATH").help("What is fetched to see whether a back end lives"))
        .arg(
            many("trust", "NETWORK")
                .value_parser(value_parser!(Network))
                .help("Peers whose X-Forwarded-* are believed"),
        )
        .arg(
            one("cache-mib", "MIB")
                .value_parser(value_parser!(u64).range(1..))
                .help("What the cache may hold [default: 256]"),
        )
        .arg(
            one("purge-token", "TOKEN").env("THRONG_EDGE_PURGE_TOKEN").hide_env_values(true).help(
                "What `Authorization: Bearer` of a PURGE must say; without it there are none",
            ),
        )
        .arg(super::spec::flag(
            "access-log",
            "Write a line of JSON for each request to standard output",
        ))
        .after_help(format!(
            "Examples:\n  \
             {name} edge --upstream http://127.0.0.1:8000\n  \
             {name} edge --listen 0.0.0.0:80 --upstream http://10.0.0.1:8000 --upstream \
             http://10.0.0.2:8000 --check /health\n\n\
             TERM and INT stop it once what is under way is done."
        ))
}

pub(super) fn run(config: &Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    log::start(&config.log)?;
    let usage = |error: throng_edge::Error| Failure::Usage(error.to_string());
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let upstreams = matches.get_many::<String>("upstream").unwrap_or_default();
    let upstreams =
        upstreams.map(|url| Upstream::http(url)).collect::<Result<_, _>>().map_err(usage)?;
    let mut settings = throng_edge::Config::default();
    settings.health.path = text("check");
    settings.trusted_peers = matches.get_many("trust").unwrap_or_default().copied().collect();
    settings.purge_token = text("purge-token").map(Secret::new);
    if let Some(mib) = matches.get_one::<u64>("cache-mib") {
        settings.cache_bytes = mib << 20;
    }
    let mut edge = Edge::new(settings, upstreams, &Clock::system()).map_err(usage)?;
    let mut writer = None;
    if matches.get_flag("access-log") {
        let (log, lines) = AccessLog::pair();
        edge = edge.with_access_log(log);
        writer = Some(lines);
    }
    let listen = text("listen").unwrap_or_default();
    runtime()?.block_on(async {
        let listener = TcpListener::bind(&listen).await;
        let listener = listener.map_err(|source| StartError::Listen { listen, source })?;
        let system = |source| StartError::System { doing: "listen for signals", source };
        let terminate = signal(SignalKind::terminate()).map_err(system)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!("edge listens on http://{address}");
        }
        let written = writer.map(|lines| tokio::spawn(lines.run(tokio::io::stdout())));
        let served = serve(&edge, listener, &mut [terminate, interrupt]).await;
        drop(edge);
        if let Some(written) = written {
            let _ = tokio::time::timeout(GRACE, written).await;
        }
        served.map_err(|error| Failure::Run(Error::internal(error)))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Serves until one of the signals comes, then finishes what is under way.
async fn serve(
    edge: &Edge,
    listener: TcpListener,
    [terminate, interrupt]: &mut [Signal; 2],
) -> throng_edge::Result<()> {
    let (trigger, shutdown) = Shutdown::pair();
    let mut served = std::pin::pin!(edge.serve(listener, shutdown, GRACE));
    tokio::select! {
        served = &mut served => return served,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    trigger.request();
    served.await
}

const GRACE: Duration = Duration::from_secs(30);
