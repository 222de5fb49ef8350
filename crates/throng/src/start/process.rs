//! A serving process: plays its roles until a signal, then drains.

use std::{io, net::TcpListener, process::ExitCode, sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throng_core::{Clock, Shutdown, Trigger};
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};

use super::{
    Means, Migrate, Role, StartError, Works, check_data, claim_ids,
    handover::{Handover, take_over},
    log,
    report::Report,
    role::Duty,
    rooms::announce,
};
use crate::{App, Config, ctx::Started, web};

/// What a process does before its runtime exists.
pub(crate) struct Process {
    app: App,
    config: Config,
    roles: Vec<&'static Role>,
    listener: Option<TcpListener>,
    handover: Handover,
}

impl Process {
    /// Listens and prepares the data folder; nothing is open yet.
    pub(crate) fn prepare(
        app: App,
        config: Config,
        roles: Vec<&'static Role>,
    ) -> Result<Self, StartError> {
        log::start(&config.log)?;
        check_split(&config, &roles)?;
        raise_open_files();
        let listener = match roles.iter().any(|role| role.listens) {
            false => None,
            true => Some(web::listen(&config.web.listen).map_err(|source| StartError::Listen {
                listen: config.web.listen.clone(),
                setting: "web.listen",
                source,
            })?),
        };
        check_data(&config.data)?;
        let config = config.with_secret_key()?;
        let handover = Handover::new(std::env::args_os().collect(), listener.as_ref());
        let handover = handover.map_err(|source| StartError::System {
            doing: "remember how this was started",
            source,
        })?;
        Ok(Self { app, config, roles, listener, handover })
    }
}

/// Runs until a signal. The exit code is 0 after a clean stop.
pub(crate) async fn run(process: Process) -> Result<ExitCode, StartError> {
    let Process { app, config, roles, listener, handover } = process;
    let system = |doing| move |source| StartError::System { doing, source };
    let mut signals = Signals::listen().map_err(system("listen for signals"))?;
    let clock = Clock::system();
    let ids = claim_ids(&config, &clock)?;
    let (trigger, shutdown) = Shutdown::pair();
    let migrate = if config.is_production() { Migrate::Refuse } else { Migrate::Apply };
    let means = Means { clock, ids, shutdown: shutdown.clone(), handover: Some(handover) };
    announce(&config);
    let (works, at_start) = app.open(config, means, migrate).await?;
    let works = Arc::new(works);
    for work in at_start {
        work(works.door.site().ctx()).await.map_err(StartError::Site)?;
    }
    if let Some(listener) = &listener {
        let address = listener.local_addr().map_err(system("read the listening address"))?;
        tracing::info!(%address, "listening on http://{address}");
    }
    let report = Report::begin(&works, &roles);
    let mut playing = JoinSet::new();
    for role in roles {
        let listener = match (&listener, role.listens) {
            (Some(listener), true) => {
                Some(listener.try_clone().map_err(system("share the listening socket"))?)
            }
            _ => None,
        };
        let duty = Duty { works: Arc::clone(&works), listener, shutdown: shutdown.clone() };
        let played = (role.play)(duty);
        playing.spawn(async move { (role.name, played.await) });
    }
    // From here on the roles alone hold the socket, so that it closes when they stop accepting.
    drop(listener);
    take_over().map_err(system("tell the process before to stop"))?;
    let code = play(works, playing, &mut signals, &trigger).await;
    if let Some(report) = report {
        report.end().await;
    }
    Ok(code)
}

/// Waits for signals and for roles to end.
async fn play(
    works: Arc<Works>,
    mut playing: JoinSet<(&'static str, crate::Result)>,
    signals: &mut Signals,
    trigger: &Trigger,
) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut next_process: Option<Child> = None;
    let handover = works.door.site().0.handover.as_ref();
    loop {
        tokio::select! {
            ended = playing.join_next() => match ended {
                None => break,
                Some(Ok((_, Ok(())))) => trigger.request(),
                Some(Ok((role, Err(error)))) => {
                    tracing::error!(role, %error, "the {role} role failed: {error}");
                    code = ExitCode::FAILURE;
                    trigger.request();
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "a role broke: {error}");
                    code = ExitCode::FAILURE;
                    trigger.request();
                }
            },
            asked = signals.next() => match asked {
                Asked::Stop if trigger.shutdown().is_requested() => {
                    tracing::warn!("stopping at once: asked a second time");
                    return ExitCode::FAILURE;
                }
                Asked::Stop => {
                    tracing::info!("stopping; what is under way may finish");
                    trigger.request();
                }
                Asked::HandOver if next_process.is_some() => {}
                Asked::HandOver => match handover.map(Handover::start) {
                    Some(Ok(child)) => {
                        tracing::info!(pid = child.id(), "started the process that takes over");
                        next_process = Some(child);
                    }
                    Some(Err(error)) => tracing::error!(%error, "cannot start a new process: {error}"),
                    None => {}
                },
            },
            status = ended(&mut next_process) => {
                next_process = None;
                if let Some(handover) = handover {
                    handover.failed();
                }
                let status = status.map_or_else(|error| error.to_string(), |s| s.to_string());
                tracing::error!(status, "the new process did not take over ({status}); this one carries on");
            }
        }
    }
    works.close().await;
    tracing::info!("stopped");
    code
}

async fn ended(process: &mut Option<Child>) -> io::Result<std::process::ExitStatus> {
    match process {
        Some(process) => process.wait().await,
        None => std::future::pending().await,
    }
}

/// Opens as many files as the machine lets this process have. Every visitor and every call of a task
/// is a socket, and what a shell or systemd gives at first is often 1,024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, "cannot raise how many files may be open: {error}");
    }
}

/// Refuses a role alone where the others could not reach it.
fn check_split(config: &Config, roles: &[&'static Role]) -> Result<(), StartError> {
    let is_shared = config.bus.scheme() != "memory" || config.bus_allow_split;
    match roles {
        [role] if !is_shared => {
            let engine = config.bus.scheme().to_owned();
            Err(StartError::NotShared { role: role.name, engine })
        }
        _ => Ok(()),
    }
}

impl Works {
    /// Closes what holds files.
    pub(crate) async fn close(&self) {
        let Started { cache, db, .. } = &*self.door.site().0;
        if tokio::time::timeout(CLOSE, cache.settle()).await.is_err() {
            tracing::warn!("the cache did not finish loading in time");
        }
        if tokio::time::timeout(CLOSE, self.settle_counters()).await.is_err() {
            tracing::warn!("the queue does not answer: what was counted last is lost");
        }
        if tokio::time::timeout(CLOSE, self.telling.end()).await.is_err() {
            tracing::warn!("other processes were not told of the last changes of the cache");
        }
        if tokio::time::timeout(CLOSE, db.close()).await.is_err() {
            tracing::warn!(
                "the database did not close in time; nothing that was committed is lost"
            );
        }
    }
}

impl Works {
    /// Pushes what this process has counted.
    pub(crate) async fn settle_counters(&self) {
        for counters in self.door.site().0.counters.values() {
            if let Err(error) = counters.settle().await {
                tracing::warn!(%error, "what was counted cannot be pushed: {error}");
            }
        }
    }
}

enum Asked {
    Stop,
    HandOver,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::HandOver,
        }
    }
}

const CLOSE: Duration = Duration::from_secs(5);
