//! `edge`: stand before a site in any language.

mod file;
mod follow;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use throng_core::{Clock, Secret, Shutdown};
use throng_edge::{AccessLog, Edge, Network, Upstream};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use self::{
    file::{FileError, Page},
    follow::Follow,
};
use super::{Failure, runtime};
use crate::{
    Config, Error,
    start::{StartError, log},
};

pub(super) fn spec(name: &str) -> Command {
    let many = |name, value| Arg::new(name).long(name).value_name(value).action(ArgAction::Append);
    let one = |name, value| Arg::new(name).long(name).value_name(value);
    let check = Command::new("check")
        .about("Check the file of an edge, start nothing")
        .arg(Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf)))
        .after_help(format!(
            "Examples:\n  \
             {name} edge check edge.toml   say what is wrong and on which line, with exit code 2"
        ));
    Command::new("edge")
        .about("Stand before a site: balance over its back ends and cache its pages")
        .arg(one("listen", "ADDRESS").help("Where visitors come in [default: 127.0.0.1:8080]"))
        .arg(
            many("upstream", "URL")
                .required_unless_present("file")
                .conflicts_with("file")
                .help("A back end; give it once for each"),
        )
        .arg(
            one("file", "FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Read back ends and settings from here, and follow what changes in it"),
        )
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
        .subcommand(check)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .after_help(format!(
            "Examples:\n  \
             {name} edge --upstream http://127.0.0.1:8000\n  \
             {name} edge --listen 0.0.0.0:80 --upstream http://10.0.0.1:8000 --upstream \
             http://10.0.0.2:8000 --check /health\n  \
             {name} edge --file edge.toml\n  \
             {name} edge check edge.toml\n\n\
             A flag counts for more than the file. TERM and INT stop it once what is under way is \
             done; HUP reads the file at once."
        ))
}

pub(super) fn run(config: &Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    if let Some(("check", matches)) = matches.subcommand() {
        return check(matches);
    }
    log::start(&config.log)?;
    let path = matches.get_one::<PathBuf>("file").map(PathBuf::as_path);
    let read = path.map(Page::load).transpose().map_err(wrong)?;
    let (page, text) = read.unwrap_or_default();
    let upstreams = match path {
        Some(_) => page.upstreams(),
        None => {
            let urls = matches.get_many::<String>("upstream").unwrap_or_default();
            urls.map(|url| Upstream::http(url)).collect()
        }
    };
    let settings = settings(&page, matches);
    let mut edge =
        Edge::new(settings, upstreams.map_err(wrong)?, &Clock::system()).map_err(wrong)?;
    let mut writer = None;
    if page.access_log || matches.get_flag("access-log") {
        let (log, lines) = AccessLog::pair();
        edge = edge.with_access_log(log);
        writer = Some(lines);
    }
    follow::set(&edge, &page);
    let listen = matches.get_one::<String>("listen").or(page.listen.as_ref());
    let listen = listen.map_or(LISTEN, String::as_str).to_owned();
    runtime()?.block_on(async {
        let listener = TcpListener::bind(&listen).await;
        let listener = listener.map_err(|source| StartError::Listen { listen, source })?;
        let system = |source| StartError::System { doing: "listen for signals", source };
        let terminate = signal(SignalKind::terminate()).map_err(system)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        let hang_up = signal(SignalKind::hangup()).map_err(system)?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!("edge listens on http://{address}");
        }
        let written = writer.map(|lines| tokio::spawn(lines.run(tokio::io::stdout())));
        let follow = Follow::new(path.map(Path::to_owned), page, text, hang_up);
        let served = serve(&edge, listener, follow, &mut [terminate, interrupt]).await;
        drop(edge);
        if let Some(written) = written {
            let _ = tokio::time::timeout(GRACE, written).await;
        }
        served.map_err(|error| Failure::Run(Error::internal(error)))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// `edge check FILE`: whether an edge would start with it.
fn check(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some(path) = matches.get_one::<PathBuf>("FILE") else { return Ok(super::wrong()) };
    let (page, _) = Page::load(path).map_err(wrong)?;
    let upstreams = page.upstreams().map_err(wrong)?;
    let mut settings = throng_edge::Config::default();
    page.apply(&mut settings);
    let edge = Edge::new(settings, upstreams, &Clock::system()).map_err(wrong)?;
    println!("{}: good, {} back ends", path.display(), edge.servers().len());
    Ok(ExitCode::SUCCESS)
}

/// The defaults, the file over them, the flags over both.
fn settings(page: &Page, matches: &ArgMatches) -> throng_edge::Config {
    let mut settings = throng_edge::Config::default();
    page.apply(&mut settings);
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    if let Some(path) = text("check") {
        settings.health.path = Some(path);
    }
    settings.trusted_peers.extend(matches.get_many::<Network>("trust").unwrap_or_default());
    if let Some(token) = text("purge-token") {
        settings.purge_token = Some(Secret::new(token));
    }
    if let Some(mib) = matches.get_one::<u64>("cache-mib") {
        settings.cache_bytes = mib << 20;
    }
    settings
}

/// Serves until one of the signals comes, then finishes what is under way.
async fn serve(
    edge: &Edge,
    listener: TcpListener,
    mut follow: Follow,
    [terminate, interrupt]: &mut [Signal; 2],
) -> throng_edge::Result<()> {
    let (trigger, shutdown) = Shutdown::pair();
    let mut served = std::pin::pin!(edge.serve(listener, shutdown, GRACE));
    tokio::select! {
        served = &mut served => return served,
        () = follow.run(edge) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    trigger.request();
    served.await
}

/// Wrong usage, in one line.
fn wrong(error: impl Into<Wrong>) -> Failure {
    Failure::Usage(error.into().to_string())
}

#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Edge(#[from] throng_edge::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

const LISTEN: &str = "127.0.0.1:8080";
const GRACE: Duration = Duration::from_secs(30);
