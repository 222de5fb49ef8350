//! Accepts connections, and checks the back ends meanwhile.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::ServerConfig;
use throng_core::Shutdown;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Edge,
    talk::{Protocol, Talk},
};
use crate::{
    Certificates, Error, Result, proxy_protocol, tasks::Tasks, tls::ALPN_H2, upstream::Server,
};

/// A socket that visitors come in by.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    https_port: Option<u16>,
}

impl Listener {
    /// HTTP/1.1 and HTTP/2 in the clear.
    #[must_use]
    pub fn plain(socket: TcpListener) -> Self {
        Self { socket, tls: None, https_port: None }
    }

    /// HTTP/1.1 and HTTP/2 over TLS 1.2 or 1.3.
    #[must_use]
    pub fn tls(socket: TcpListener, certificates: &Certificates) -> Self {
        let tls = Some(certificates.config());
        Self { socket, tls, https_port: None }
    }

    /// Answers every request with a redirect to the same address over HTTPS, at `port`.
    #[must_use]
    pub fn sending_to_https(self, port: u16) -> Self {
        Self { https_port: Some(port), ..self }
    }
}

impl Edge {
    /// Serves HTTP/1.1 and HTTP/2 in the clear on `listener` until `shutdown`; then finishes what is
    /// under way, for at most `grace`.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: Shutdown,
        grace: Duration,
    ) -> Result<()> {
        self.serve_on([Listener::plain(listener)], shutdown, grace).await
    }

    /// As [`serve`](Self::serve), on each of `listeners`.
    pub async fn serve_on(
        &self,
        listeners: impl IntoIterator<Item = Listener>,
        shutdown: Shutdown,
        grace: Duration,
    ) -> Result<()> {
        let checks = self.check(shutdown.clone());
        let (visitors, places) = (Tasks::default(), Arc::new(self.places()));
        let accepts = listeners.into_iter().map(|listener| {
            self.accept(listener, shutdown.clone(), (visitors.clone(), Arc::clone(&places)))
        });
        let accepts = async {
            let accepted = futures_util::future::join_all(accepts).await;
            visitors.finish(&self.inner.clock, grace).await;
            accepted.into_iter().collect::<Result<()>>()
        };
        // What is under way may still purge, which is to be written down.
        let (last_word, over) = Shutdown::pair();
        let writes = async {
            if let Some(disk) = &self.inner.disk {
                disk.run(over).await;
            }
        };
        let work = async {
            let (accepted, ()) = tokio::join!(accepts, checks);
            self.inner.fleet.rest();
            self.inner.tasks.finish(&self.inner.clock, grace).await;
            last_word.request();
            accepted
        };
        let (accepted, ()) = tokio::join!(work, writes);
        accepted
    }

    /// Checks the back ends until `shutdown`. [`serve`](Self::serve) does it by itself.
    pub async fn check(&self, shutdown: Shutdown) {
        let mut changes = self.inner.fleet.changes();
        loop {
            let servers = self.inner.fleet.now();
            let servers = servers.iter().filter(|server| server.is_checked());
            let checks = servers.map(|server| self.check_one(server));
            // Checks never end by themselves, but there may be none.
            let checks = async {
                futures_util::future::join_all(checks).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = shutdown.requested() => return,
                Ok(()) = changes.changed() => {}
                () = checks => {}
            }
        }
    }

    async fn check_one(&self, server: &Arc<Server>) {
        let config = &self.inner.config;
        loop {
            let started = self.inner.clock.elapsed();
            let is_alive = server.is_alive(config).await;
            if server.checked(config, is_alive) {
                let name = &server.name;
                match is_alive {
                    true => tracing::info!(server.name = %name, "back end {name} is back"),
                    false => {
                        tracing::warn!(server.name = %name, "back end {name} fails its checks")
                    }
                }
            }
            let took = self.inner.clock.elapsed().saturating_sub(started);
            let interval = Duration::from_millis(config.health.interval_ms.max(1));
            self.inner.clock.sleep(interval.saturating_sub(took)).await;
        }
    }

    fn places(&self) -> Semaphore {
        Semaphore::new(self.inner.config.max_connections.min(Semaphore::MAX_PERMITS))
    }

    async fn accept(
        &self,
        listener: Listener,
        shutdown: Shutdown,
        (visitors, places): (Tasks, Arc<Semaphore>),
    ) -> Result<()> {
        let Listener { socket, tls, https_port } = listener;
        let tls = tls.map(TlsAcceptor::from);
        let mut failures = 0_u32;
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = shutdown.requested() => break,
            };
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = shutdown.requested() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failures = 0;
                    let (edge, shutdown) = (self.clone(), shutdown.clone());
                    let (tls, talk) = (tls.clone(), Talk::new(self, peer.ip(), https_port));
                    visitors.spawn(async move {
                        // Broken connections are an everyday thing.
                        if let Err(error) =
                            edge.connected(stream, peer, (tls, talk, shutdown)).await
                        {
                            tracing::debug!("closed a connection of {peer}: {error}");
                        }
                        drop(place);
                    });
                }
                // Too many open files, most often: what is open must end before more can begin.
                Err(error) if failures < MOST_FAILURES => {
                    failures += 1;
                    tracing::warn!("cannot accept a connection: {error}");
                    self.inner.clock.sleep(PAUSE).await;
                }
                Err(error) => return Err(Error::Accept(error)),
            }
        }
        Ok(())
    }

    async fn connected(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        (tls, mut talk, shutdown): (Option<TlsAcceptor>, Talk, Shutdown),
    ) -> io::Result<()> {
        let _ = stream.set_nodelay(true); // only slower without it
        let limit = Duration::from_millis(self.inner.config.head_timeout_ms);
        talk.visitor = self.visitor(&mut stream, peer).await?;
        let Some(tls) = tls else {
            let begun =
                self.inner.clock.timeout(limit, Protocol::of(&stream, &self.inner.clock)).await;
            let late = || io::Error::from(io::ErrorKind::TimedOut);
            let begun = begun.ok_or_else(late).inspect_err(|_| self.inner.stats.slow.add(1))?;
            talk.protocol = begun?;
            talk.over(stream, shutdown).await;
            return Ok(());
        };
        let shaken = self.inner.clock.timeout(limit, tls.accept(stream)).await;
        let shaken = shaken.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
        let stream = shaken.inspect_err(|_| self.inner.stats.handshakes.add(1))?;
        talk.scheme = "https";
        talk.protocol = match stream.get_ref().1.alpn_protocol() {
            Some(ALPN_H2) => Protocol::Http2,
            // An authority has seen what it wanted in the handshake.
            #[cfg(feature = "acme")]
            Some(crate::tls::ALPN_ACME) => return Ok(()),
            _ => Protocol::Http1,
        };
        talk.over(stream, shutdown).await;
        Ok(())
    }

    /// Who is at the other end: the peer, or whom it says it speaks for.
    async fn visitor(&self, stream: &mut TcpStream, peer: SocketAddr) -> io::Result<IpAddr> {
        let config = &self.inner.config;
        if !config.proxy_protocol {
            return Ok(peer.ip());
        }
        if !config.trusted_peers.iter().any(|network| network.contains(peer.ip())) {
            let reason = "only trusted peers may say who the visitor is";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let limit = Duration::from_millis(config.head_timeout_ms);
        let header = self.inner.clock.timeout(limit, proxy_protocol::read(stream)).await;
        let visitor = header.ok_or(io::ErrorKind::TimedOut)??;
        Ok(visitor.unwrap_or(peer.ip()))
    }
}

const PAUSE: Duration = Duration::from_millis(50);
/// Ten seconds of failures.
const MOST_FAILURES: u32 = 200;
