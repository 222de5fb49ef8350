//! Accepts connections, and checks the back ends meanwhile.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use throng_core::Shutdown;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::Edge;
use crate::{Body, Error, Result, limit::Patient, proxy_protocol, upstream::Server};

impl Edge {
    /// Serves HTTP/1.1 and HTTP/2 in the clear on `listener` until `shutdown`; then finishes what is
    /// under way, for at most `grace`.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: Shutdown,
        grace: Duration,
    ) -> Result<()> {
        let checks = self.check(shutdown.clone());
        let accepts = self.accept(listener, shutdown, grace);
        let (accepted, ()) = tokio::join!(accepts, checks);
        self.inner.tasks.finish(&self.inner.clock, grace).await;
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
            let is_alive = server.is_alive(config, &self.inner.tasks).await;
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

    async fn accept(
        &self,
        listener: TcpListener,
        shutdown: Shutdown,
        grace: Duration,
    ) -> Result<()> {
        let places = Arc::new(Semaphore::new(self.inner.config.max_connections));
        let graceful = GracefulShutdown::new();
        let mut failures = 0_u32;
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = shutdown.requested() => break,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.requested() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failures = 0;
                    let connection = self.connection(stream, peer, graceful.watcher());
                    self.inner.tasks.spawn(async move {
                        connection.await;
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
        drop(listener);
        let _ = self.inner.clock.timeout(grace, graceful.shutdown()).await;
        Ok(())
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
    ) -> impl Future<Output = ()> + use<> {
        let edge = self.clone();
        async move {
            match edge.visitor(stream, peer).await {
                Ok((stream, visitor)) => edge.talk(stream, visitor, watcher).await,
                // Broken connections are an everyday thing.
                Err(error) => tracing::debug!("closed a connection of {peer}: {error}"),
            }
        }
    }

    /// Who is at the other end: the peer, or whom it says it speaks for.
    async fn visitor(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
    ) -> io::Result<(TcpStream, IpAddr)> {
        let config = &self.inner.config;
        if !config.proxy_protocol {
            return Ok((stream, peer.ip()));
        }
        if !config.trusted_peers.iter().any(|network| network.contains(peer.ip())) {
            let reason = "only trusted peers may say who the visitor is";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let limit = Duration::from_millis(config.head_timeout_ms);
        let header = self.inner.clock.timeout(limit, proxy_protocol::read(&mut stream)).await;
        let visitor = header.ok_or(io::ErrorKind::TimedOut)??;
        Ok((stream, visitor.unwrap_or(peer.ip())))
    }

    fn talk(
        &self,
        stream: TcpStream,
        address: IpAddr,
        watcher: hyper_util::server::graceful::Watcher,
    ) -> impl Future<Output = ()> + use<> {
        let config = &self.inner.config;
        let _ = stream.set_nodelay(true); // only slower without it
        let (clock, tasks) = (&self.inner.clock, &self.inner.tasks);
        let io = TokioIo::new(Patient::new(stream, clock, config.body_timeout_ms, tasks));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(config.head_timeout_ms))
            .max_buf_size(config.max_head_bytes)
            .max_headers(config.max_fields)
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(Duration::from_millis(config.head_timeout_ms))
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let edge = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let edge = edge.clone();
            async move {
                let request = request.map(Body::incoming);
                Ok::<_, Infallible>(edge.handle(request, address, "http").await)
            }
        });
        async move {
            let connection = builder.serve_connection_with_upgrades(io, service).into_owned();
            // Broken connections are an everyday thing; hyper has answered what can be answered.
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!("a connection of {address} broke: {error}");
            }
        }
    }
}

const PAUSE: Duration = Duration::from_millis(50);
/// Ten seconds of failures.
const MOST_FAILURES: u32 = 200;
const MOST_STREAMS: u32 = 128;
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
