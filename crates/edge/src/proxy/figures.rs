//! What the edge tells those who watch it, on an address of its own: Prometheus text, HAProxy's CSV,
//! and as JSON the pages asked for most, how patterns fare, and the last purges.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use throng_core::Shutdown;
use tokio::net::{TcpListener, TcpStream};

use super::Edge;
use crate::{Body, tasks::Tasks};

impl Edge {
    /// Tells figures on `listen` until `shutdown`. While another process has the address, such as the
    /// one that this takes over from, it waits for it. Whoever can connect may read them.
    pub async fn serve_figures(&self, listen: SocketAddr, shutdown: Shutdown) {
        tokio::select! {
            () = self.tell_figures(listen) => {}
            () = shutdown.requested() => {}
        }
    }

    async fn tell_figures(&self, listen: SocketAddr) {
        let clock = &self.inner.clock;
        let mut is_told = false;
        let listener = loop {
            match TcpListener::bind(listen).await {
                Ok(listener) => break listener,
                Err(error) if !is_told => {
                    tracing::warn!("cannot tell figures on {listen} yet: {error}");
                    is_told = true;
                }
                Err(_) => {}
            }
            clock.sleep(PAUSE).await;
        };
        tracing::info!("figures are on http://{listen}");
        let tasks = Tasks::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let edge = self.clone();
                    tasks.spawn(async move { edge.talk_figures(stream).await });
                }
                Err(_) => clock.sleep(PAUSE).await,
            }
        }
    }

    async fn talk_figures(&self, stream: TcpStream) {
        let service = service_fn(async |request: Request<Incoming>| {
            Ok::<_, Infallible>(self.figures(request.method(), request.uri()))
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(REST);
        // Whoever goes away has had enough.
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    fn figures(&self, method: &Method, uri: &http::Uri) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return answer(
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                "GET, or nothing\n".into(),
            );
        }
        let cache = self.cache();
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let json = |value: serde_json::Value| {
            answer(StatusCode::OK, "application/json", format!("{value}\n"))
        };
        match target {
            "/metrics" => answer(StatusCode::OK, "text/plain; version=0.0.4", self.prometheus()),
            "/top" => {
                let top = cache.top(MOST_PAGES).into_iter();
                let top = top.map(|(page, hits)| json!({ "page": page, "hits": hits }));
                json(top.collect())
            }
            "/patterns" => json(json!(cache.fared())),
            "/purges" => json(json!(cache.purged())),
            _ if target.ends_with(";csv") => {
                answer(StatusCode::OK, "text/plain", self.haproxy_csv())
            }
            "/" => answer(StatusCode::OK, "text/plain", INDEX.into()),
            _ => answer(StatusCode::NOT_FOUND, "text/plain", INDEX.into()),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const INDEX: &str = "/metrics    the counters, as Prometheus reads them
/stats;csv  HAProxy's statistics
/top        the pages in memory that were asked for most
/patterns   how requests fared, by the first part of their path
/purges     the last purges
";
const MOST_PAGES: usize = 50;
const PAUSE: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(30);
