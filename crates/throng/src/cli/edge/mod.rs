//! `edge`: stand before a site in any language.

mod doors;
mod file;
mod follow;
mod handover;
mod run;
mod told;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource, value_parser};
use throng_core::{Clock, Secret};
use throng_edge::{AccessLog, Certificates, Edge, Network, PemFiles, Trust, Upstream};
use toml::Spanned;

use self::{
    doors::Doors,
    file::{FileError, Page},
    handover::Old,
    run::Run,
};
use super::{Failure, runtime};
use crate::{
    Config,
    start::{StartError, log},
};

pub(super) fn spec(name: &str) -> Command {
    let many = |name, value| Arg::new(name).long(name).value_name(value).action(ArgAction::Append);
    let one = |name, value| Arg::new(name).long(name).value_name(value);
    let check = Command::new("check")
        .about("Check the file of an edge, start nothing")
        .arg(Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf)))
        .arg(super::flag::flag("json", "Print JSON"))
        .after_help(format!(
            "Examples:\n  \
             {name} edge check edge.toml          say what is wrong and where, with exit code 2\n  \
             {name} edge check --json edge.toml   the same as `is_good`, `line`, `key` and `reason`"
        ));
    let reload = Command::new("reload")
        .about("Start anew with the program and the file as they are now, without losing a connection")
        .arg(
            Arg::new("pid-file")
                .long("pid-file")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("What the edge was given as --pid-file"),
        )
        .after_help(format!(
            "Example:\n  {name} edge reload --pid-file /run/edge.pid\n\n\
             The same as the signal USR2. It returns once the new process serves. Pages in memory are \
             fetched anew."
        ));
    Command::new("edge")
        .about("Stand before a site: balance over its back ends and cache its pages")
        .arg(one("listen", "ADDRESS").help("Where visitors come in [default: 127.0.0.1:8080]"))
        .arg(
            many("upstream", "URL")
                .required_unless_present("file")
                .conflicts_with("file")
                .help("A back end, http:// or https://; give it once for each"),
        )
        .arg(
            one("upstream-ca", "FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("file")
                .help("Who issued the back ends' certificates, in PEM [default: whom the system knows]"),
        )
        .arg(
            one("upstream-name", "NAME")
                .conflicts_with("file")
                .help("The name in the back ends' certificates [default: the host of each URL]"),
        )
        .arg(
            super::flag::flag("upstream-unverified", "Take any certificate from back ends")
                .conflicts_with("file"),
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
        .arg(one("tls-listen", "ADDRESS").requires("certificate").help(
            "Where visitors come in by HTTPS [default: 0.0.0.0:443 once there is a certificate]",
        ))
        .arg(
            many("certificate", "FILE")
                .value_parser(value_parser!(PathBuf))
                .requires("key")
                .conflicts_with("file")
                .help("A certificate and its issuers in PEM; give it once for each"),
        )
        .arg(
            many("key", "FILE")
                .value_parser(value_parser!(PathBuf))
                .requires("certificate")
                .help("The key of each certificate, in their order"),
        )
        .arg(
            super::flag::flag("redirect-https", "Send visitors who come in the clear to HTTPS")
                .requires("certificate"),
        )
        .arg(
            one("pid-file", "FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the id of the process that serves into it"),
        )
        .arg(
            one("disk", "FOLDER")
                .value_parser(value_parser!(PathBuf))
                .help("Keep pages here too, so that the next process finds them"),
        )
        .arg(
            one("figures", "ADDRESS").value_parser(value_parser!(SocketAddr)).help(
                "Tell figures here: for Prometheus, as HAProxy's CSV, the pages asked for most",
            ),
        )
        .arg(super::flag::flag(
            "access-log",
            "Write a line of JSON for each request to standard output",
        ))
        .subcommand(check)
        .subcommand(reload)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .after_help(format!(
            "Examples:\n  \
             {name} edge --upstream http://127.0.0.1:8000\n  \
             {name} edge --listen 0.0.0.0:80 --upstream http://10.0.0.1:8000 --upstream \
             http://10.0.0.2:8000 --check /health\n  \
             {name} edge --listen 0.0.0.0:80 --redirect-https --certificate fullchain.pem --key \
             privkey.pem --upstream http://127.0.0.1:8000\n  \
             {name} edge --upstream https://10.0.0.1:8443 --upstream-ca internal-ca.pem --upstream-name \
             app.internal\n  \
             {name} edge --file edge.toml\n  \
             {name} edge check edge.toml\n  \
             {name} edge reload --pid-file /run/edge.pid\n\n\
             A flag counts for more than the file. TERM and INT stop it once what is under way is \
             done; HUP reads the file and the certificates at once; USR2 starts anew without losing a \
             connection."
        ))
}

pub(super) fn run(config: &Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    match matches.subcommand() {
        Some(("check", matches)) => return check(matches),
        Some(("reload", matches)) => return reload(matches),
        _ => {}
    }
    log::start(&config.log)?;
    let system = |doing| move |source| StartError::System { doing, source };
    let mut old = Old::find().map_err(system("take over from the process before"))?;
    let path = matches.get_one::<PathBuf>("file").map(PathBuf::as_path);
    let read = path.map(Page::load).transpose().map_err(wrong)?;
    let (page, text) = read.unwrap_or_default();
    let upstreams = match path {
        Some(path) => page.upstreams(path),
        None => {
            let urls = matches.get_many::<String>("upstream").unwrap_or_default();
            urls.map(|url| upstream(url, matches)).collect()
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
    follow::set(&edge, &page, path.unwrap_or(Path::new("")));
    let files = match path {
        Some(path) => page.certificates(path),
        None => pairs(matches)?,
    };
    let certificates =
        (!files.is_empty()).then(|| Certificates::from_files(files)).transpose().map_err(wrong)?;
    #[cfg(feature = "acme")]
    let (order, certificates) = ordered(path.and_then(|path| page.order(path)), certificates)?;
    let text_of = |name: &str| matches.get_one::<String>(name).cloned();
    let listen = text_of("listen")
        .or(page.listen.clone().map(Spanned::into_inner))
        .unwrap_or_else(|| LISTEN.into());
    let tls = page.tls.as_ref().and_then(|tls| tls.listen.clone()).map(Spanned::into_inner);
    let tls = text_of("tls-listen").or(tls).unwrap_or_else(|| LISTEN_TLS.into());
    let tls = certificates.is_some().then_some(tls);
    let handed = old.as_mut().map(Old::take_sockets).unwrap_or_default();
    let doors = Doors::open(&listen, tls.as_deref(), handed)?;
    let figures = page.figures;
    let redirects = page.tls.as_ref().is_some_and(|tls| tls.redirect);
    let run = Run {
        edge,
        doors,
        certificates,
        sends_to_https: redirects || matches.get_flag("redirect-https"),
        file: path.map(Path::to_owned),
        page: (page, text),
        pid_file: matches.get_one::<PathBuf>("pid-file").cloned(),
        figures: matches.get_one::<SocketAddr>("figures").copied().or(figures),
        writer,
        old,
        #[cfg(feature = "acme")]
        order,
    };
    runtime()?.block_on(run.serve())?;
    Ok(ExitCode::SUCCESS)
}

/// The certificates, with what was ordered before if something is to be ordered.
#[cfg(feature = "acme")]
fn ordered(
    order: Option<throng_edge::Acme>,
    certificates: Option<Certificates>,
) -> Result<(Option<throng_edge::Acme>, Option<Certificates>), Failure> {
    let Some(order) = order else { return Ok((None, certificates)) };
    let certificates = match certificates {
        Some(certificates) => certificates,
        None => Certificates::to_come().map_err(wrong)?,
    };
    order.bring(&certificates).map_err(wrong)?;
    Ok((Some(order), Some(certificates)))
}

/// A back end that the command line names.
fn upstream(url: &str, matches: &ArgMatches) -> throng_edge::Result<Upstream> {
    let trust = Trust {
        ca: matches.get_one::<PathBuf>("upstream-ca").cloned(),
        name: matches.get_one::<String>("upstream-name").cloned(),
        is_blind: matches.get_flag("upstream-unverified"),
    };
    Upstream::trusted(url, &trust)
}

/// The certificates that the command line names.
fn pairs(matches: &ArgMatches) -> Result<Vec<PemFiles>, Failure> {
    let paths = |name: &str| -> Vec<PathBuf> {
        matches.get_many::<PathBuf>(name).unwrap_or_default().cloned().collect()
    };
    let (chains, keys) = (paths("certificate"), paths("key"));
    if chains.len() != keys.len() {
        let (chains, keys) = (chains.len(), keys.len());
        let reason = format!("--certificate is there {chains} times and --key {keys} times");
        return Err(Failure::Usage(reason));
    }
    Ok(chains.into_iter().zip(keys).map(|(chain, key)| PemFiles { chain, key }).collect())
}

/// `edge reload --pid-file FILE`.
fn reload(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some(path) = matches.get_one::<PathBuf>("pid-file") else { return Ok(super::wrong()) };
    match told::reload(path) {
        Ok((old, new)) => {
            let (old, new) = (old.as_raw_nonzero(), new.as_raw_nonzero());
            super::say(format_args!("process {new} serves in place of {old}"));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let reason = format!("cannot reload the edge of `{}`: {error}", path.display());
            Err(Failure::Usage(reason))
        }
    }
}

/// `edge check FILE`: whether an edge would start with it. Touches nothing that a running one uses.
fn check(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some(path) = matches.get_one::<PathBuf>("FILE") else { return Ok(super::wrong()) };
    let checked = Page::load(path).map(|(page, _)| page.upstream.len());
    if matches.get_flag("json") {
        let (mut said, exit) = match &checked {
            Ok(back_ends) => (serde_json::json!({ "back_ends": back_ends }), ExitCode::SUCCESS),
            Err(error) => (error.json(), ExitCode::from(2)),
        };
        said["file"] = path.display().to_string().into();
        said["is_good"] = checked.is_ok().into();
        super::say(said);
        return Ok(exit);
    }
    let back_ends = checked.map_err(wrong)?;
    let name = if back_ends == 1 { "back end" } else { "back ends" };
    super::say(format_args!("{}: good, {back_ends} {name}", path.display()));
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
    // A variable that is set to nothing is a variable that is not set.
    let is_flag = matches.value_source("purge-token") == Some(ValueSource::CommandLine);
    if let Some(token) = text("purge-token").filter(|token| is_flag || !token.is_empty()) {
        settings.purge_token = Some(Secret::new(token));
    }
    if let Some(folder) = matches.get_one::<PathBuf>("disk") {
        settings.disk_folder = Some(folder.clone());
    }
    if let Some(mib) = matches.get_one::<u64>("cache-mib") {
        settings.cache_bytes = mib << 20;
    }
    settings
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
const LISTEN_TLS: &str = "0.0.0.0:443";
