//! An edge at work: until it is told to stop, or another process takes over.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use throng_core::Shutdown;
use throng_edge::{Certificates, Edge, LogWriter};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    doors::Doors,
    file::Page,
    follow::Follow,
    handover::{Old, Successor},
    told::{self, PidFile},
};
use crate::{Error, cli::Failure, start::StartError};

/// Everything that it takes to serve.
pub(super) struct Run {
    pub(super) edge: Edge,
    pub(super) doors: Doors,
    pub(super) certificates: Option<Certificates>,
    pub(super) sends_to_https: bool,
    pub(super) file: Option<PathBuf>,
    pub(super) page: (Page, String),
    pub(super) pid_file: Option<PathBuf>,
    pub(super) figures: Option<SocketAddr>,
    pub(super) writer: Option<LogWriter>,
    pub(super) old: Option<Old>,
    #[cfg(feature = "acme")]
    pub(super) order: Option<throng_edge::Acme>,
}

impl Run {
    pub(super) async fn serve(self) -> Result<(), Failure> {
        let Self { edge, doors, certificates, sends_to_https, file, page, pid_file, .. } = self;
        let Self { figures, writer, old, .. } = self;
        let listeners = doors.listeners(certificates.as_ref(), sends_to_https);
        let listeners = listeners.map_err(system("listen"))?;
        let successor = Successor::new().map_err(system("find this program"))?;
        let hear = |kind| signal(kind).map_err(system("listen for signals"));
        let mut signals = Signals {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            restart: hear(SignalKind::user_defined2())?,
        };
        let hang_up = hear(SignalKind::hangup())?;
        for url in doors.urls() {
            tracing::info!("edge listens on {url}");
        }
        let written = writer.map(|lines| tokio::spawn(lines.run(tokio::io::stdout())));
        let (trigger, shutdown) = Shutdown::pair();
        let figures = async {
            match figures {
                Some(listen) => edge.serve_figures(listen, shutdown.clone()).await,
                None => std::future::pending().await,
            }
        };
        #[cfg(feature = "acme")]
        let certified = keep_certified(&edge, self.order, certificates.clone(), shutdown.clone());
        #[cfg(not(feature = "acme"))]
        let certified = std::future::pending::<()>();
        let mut follow = Follow::new(file, page, certificates, hang_up);
        let served = {
            let mut figures = std::pin::pin!(figures);
            let mut served = std::pin::pin!(edge.serve_on(listeners, shutdown.clone(), GRACE));
            let _pid_file = tell(pid_file, old).map_err(system("say that it serves"))?;
            tokio::select! {
                served = &mut served => served,
                () = follow.run(&edge) => Ok(()),
                () = figures.as_mut() => Ok(()),
                () = certified => Ok(()),
                () = signals.end(&successor, &doors) => {
                    trigger.request();
                    // Whoever takes over has the sockets by now; nobody else waits on them.
                    drop(doors);
                    served.await
                }
            }
        };
        drop((edge, follow));
        if let Some(written) = written {
            let _ = tokio::time::timeout(GRACE, written).await;
        }
        served.map_err(|error| Failure::Run(Error::internal(error)))
    }
}

/// Orders certificates for as long as the edge runs. Never ends before it.
#[cfg(feature = "acme")]
async fn keep_certified(
    edge: &Edge,
    order: Option<throng_edge::Acme>,
    certificates: Option<Certificates>,
    shutdown: Shutdown,
) {
    match order.zip(certificates) {
        Some((order, certificates)) => edge.keep_certified(&order, &certificates, shutdown).await,
        None => std::future::pending().await,
    }
}

/// Says to everybody who should know that this process serves from now on.
fn tell(pid_file: Option<PathBuf>, old: Option<Old>) -> io::Result<Option<PidFile>> {
    let pid_file = pid_file.map(|path| PidFile::write(&path)).transpose()?;
    told::systemd()?;
    if let Some(old) = old {
        tracing::info!("process {} takes over", std::process::id());
        old.relieve()?;
    }
    Ok(pid_file)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    restart: Signal,
}

impl Signals {
    /// Returns when this process should end: it was told to, or another one serves in its place.
    async fn end(&mut self, successor: &Successor, doors: &Doors) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.restart.recv() => {}
            }
            tracing::info!("starting a new process to take over");
            let started = tokio::select! {
                started = successor.start(doors) => started,
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            };
            match started {
                Ok(id) => {
                    tracing::info!("process {id} serves; this one finishes what it has");
                    return;
                }
                Err(error) => {
                    tracing::error!("no new process took over: {error}; this one carries on");
                }
            }
        }
    }
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { doing, source }
}

const GRACE: Duration = Duration::from_secs(30);
