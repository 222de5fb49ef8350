//! What stands between a socket and the door: nothing, or the page cache in the same process.

use std::{net::TcpListener, sync::Arc};

use axum::body::Body;
use http::{Request, Response};
use throng_core::Shutdown;

use super::StartError;
use crate::{Config, Result, web, web::door::Door};

/// Where requests come in.
#[derive(Clone)]
pub(crate) enum Front {
    /// The door itself.
    Door(Arc<Door>),
    /// A page cache with the door as its back end, no socket between.
    #[cfg(feature = "edge")]
    Edge(before::Edge),
}

impl Front {
    /// What `config` wants to stand before `door`.
    pub(crate) fn of(config: &Config, door: &Arc<Door>) -> Result<Self, StartError> {
        match config.edge.is_enabled {
            false => Ok(Self::Door(Arc::clone(door))),
            #[cfg(feature = "edge")]
            true => Ok(Self::Edge(before::Edge::new(config, door)?)),
            #[cfg(not(feature = "edge"))]
            true => Err(super::of_room(
                "edge.enabled",
                std::io::Error::other("this program was built without the feature `edge`"),
            )),
        }
    }

    /// Answers one request, whose extensions say whom it is of.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        match self {
            Self::Door(door) => door.answer(request).await,
            #[cfg(feature = "edge")]
            Self::Edge(edge) => edge.answer(request).await,
        }
    }

    /// Serves until `shutdown`, and finishes what is under way.
    pub(crate) async fn serve(self, listener: TcpListener, shutdown: Shutdown) -> Result {
        match self {
            Self::Door(door) => web::serve(listener, door, shutdown).await,
            #[cfg(feature = "edge")]
            Self::Edge(edge) => edge.serve(listener, shutdown).await,
        }
    }
}

#[cfg(feature = "edge")]
mod before {
    use std::{
        convert::Infallible,
        net::{AddrParseError, Ipv4Addr, SocketAddr, TcpListener},
        sync::{Arc, Mutex, PoisonError},
        time::Duration,
    };

    use axum::{body::Body, extract::ConnectInfo};
    use http::{Request, Response};
    use throng_core::Shutdown;
    use throng_edge::{AccessLog, Client, LogWriter, Upstream, cache::Policy};
    use tower::service_fn;

    use super::super::{StartError, of_room};
    use crate::{
        Config, Error, Result,
        web::door::{Door, GivenId, REQUEST_ID},
    };

    /// The page cache before a door.
    #[derive(Clone)]
    pub(crate) struct Edge {
        edge: throng_edge::Edge,
        door: Arc<Door>,
        log: Arc<Mutex<Option<LogWriter>>>,
        figures: Option<SocketAddr>,
    }

    impl Edge {
        pub(super) fn new(config: &Config, door: &Arc<Door>) -> Result<Self, StartError> {
            let inner = Arc::clone(door);
            let site = service_fn(move |request: Request<throng_edge::Body>| {
                let door = Arc::clone(&inner);
                async move { Ok::<_, Infallible>(door.answer(inward(request)).await) }
            });
            let upstreams = vec![Upstream::service("site", site)];
            let clock = &door.site().0.clock;
            let edge = throng_edge::Edge::new(settings(config)?, upstreams, clock);
            let mut edge = edge.map_err(|error| of_room("edge.enabled", error))?;
            let mut log = None;
            if config.edge.access_log {
                let (lines, writer) = AccessLog::pair();
                edge = edge.with_access_log(lines);
                log = Some(writer);
            }
            door.site().0.pages.are_in(edge.cache());
            let figures = match config.edge.figures.as_str() {
                "" => None,
                listen => {
                    Some(listen.parse().map_err(|error| of_room("edge.figures", Address(error)))?)
                }
            };
            let (door, log) = (Arc::clone(door), Arc::new(Mutex::new(log)));
            Ok(Self { edge, door, log, figures })
        }

        pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
            let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
            let peer = peer.map_or(Ipv4Addr::LOCALHOST.into(), |ConnectInfo(peer)| peer.ip());
            let request = request.map(throng_edge::Body::new);
            self.edge.handle(request, peer, "http").await.map(Body::new)
        }

        pub(super) async fn serve(self, listener: TcpListener, shutdown: Shutdown) -> Result {
            let Self { edge, door, log, figures } = self;
            let drain = door.site().config().web.drain;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let writer = log.lock().unwrap_or_else(PoisonError::into_inner).take();
            let written = writer.map(|lines| tokio::spawn(lines.run(tokio::io::stdout())));
            let told = async {
                if let Some(listen) = figures {
                    edge.serve_figures(listen, shutdown.clone()).await;
                }
            };
            let asked = async {
                shutdown.requested().await;
                tokio::time::Instant::now()
            };
            let serving = edge.serve(listener, shutdown.clone(), drain);
            let (served, (), asked) = tokio::join!(serving, told, asked);
            if tokio::time::timeout_at(asked + drain, door.finish()).await.is_err() {
                tracing::warn!("requests whose visitors had left did not finish in time");
            }
            drop(edge);
            if let Some(written) = written {
                // Its end needs every clone of the edge to be gone; what is written by then counts.
                let _ = tokio::time::timeout(LAST_LINES, written).await;
            }
            served.map_err(Error::internal)
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("an address and a port are wanted, such as `127.0.0.1:9100`: {0}")]
    struct Address(AddrParseError);

    /// A request as the door wants it: with its visitor and its id.
    fn inward(request: Request<throng_edge::Body>) -> Request<Body> {
        let (mut parts, body) = request.into_parts();
        if let Some(Client(address)) = parts.extensions.get::<Client>().copied() {
            parts.extensions.insert(ConnectInfo(SocketAddr::new(address, 0)));
        }
        let id = parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        if let Some(id) = id {
            parts.extensions.insert(GivenId(id));
        }
        Request::from_parts(parts, Body::new(body))
    }

    fn settings(config: &Config) -> Result<throng_edge::Config, StartError> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let trust = config.edge.trust.iter().map(|network| network.parse());
        let trust: Result<Vec<_>, _> = trust.collect();
        let mut policy = Policy::talks();
        policy.default_ttl_ms = ms(config.edge.ttl);
        policy.session_cookies.push(config.session.cookie.clone());
        let web = &config.web;
        Ok(throng_edge::Config {
            policy,
            cache_bytes: config.edge.cache_mib << 20,
            disk_folder: (config.edge.disk_mib > 0).then(|| config.data.join("pages")),
            disk_bytes: config.edge.disk_mib << 20,
            trusted_peers: trust.map_err(|error| of_room("edge.trust", error))?,
            purge_token: config.edge.purge_token.clone(),
            head_timeout_ms: ms(web.header_timeout),
            max_body_bytes: u64::try_from(web.max_body_bytes).unwrap_or(u64::MAX),
            max_connections: web.max_connections,
            // The door answers in its own time; this is for a door that does not.
            answer_timeout_ms: ms(web.request_timeout + LATE),
            // An open stream of events is a request under way, and there may be one for each visitor.
            max_requests_per_server: web.max_connections,
            // What is fetched behind visitors' backs takes processors from those who wait.
            max_refreshes: std::thread::available_parallelism().map_or(1, usize::from),
            ..throng_edge::Config::default()
        })
    }

    const LATE: Duration = Duration::from_secs(5);
    const LAST_LINES: Duration = Duration::from_secs(1);
}
