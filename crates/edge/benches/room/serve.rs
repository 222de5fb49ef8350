//! The processes of the bench: an origin, and our edge before it.

use std::{convert::Infallible, io::Write, path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use throng_core::{Clock, Shutdown};
use throng_edge::{AccessLog, Config, Edge, Upstream};
use tokio::net::TcpListener;

/// Serves `/s/BYTES/anything`: a page of so many bytes that says that it may be kept.
pub(crate) fn origin(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        said();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let served = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(page))
                    .await;
                drop(served);
            });
        }
    });
}

async fn page(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let bytes = request.uri().path().split('/').nth(2).and_then(|bytes| bytes.parse().ok());
    let body = Bytes::from("x".repeat(bytes.unwrap_or(0_usize)));
    let is_signed_in = request.headers().contains_key(header::COOKIE);
    let control = if is_signed_in { "private" } else { "max-age=3600" };
    let response = Response::builder()
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .header(header::CACHE_CONTROL, control)
        .header(header::VARY, "Accept-Encoding")
        .header(header::ETAG, "\"v1\"")
        .header("surrogate-key", "page event-7 events")
        .header("x-frame-options", "DENY")
        .header("content-security-policy", "default-src 'self'");
    Ok(response.body(Full::new(body)).unwrap())
}

/// Our edge as `throng edge` starts it, on as many cores as it was given, with a log.
pub(crate) fn edge(port: u16, origin: &str, log: &Path, mib: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config { cache_bytes: mib << 20, ..Config::default() };
        let upstreams = vec![Upstream::http(origin).unwrap()];
        let (lines, writer) = AccessLog::pair();
        let edge = Edge::new(config, upstreams, &Clock::system()).unwrap().with_access_log(lines);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        tokio::spawn(writer.run(tokio::fs::File::from_std(file)));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (_trigger, shutdown) = Shutdown::pair();
        said();
        edge.serve(listener, shutdown, Duration::from_secs(1)).await.unwrap();
    });
}

fn said() {
    let mut out = std::io::stdout();
    out.write_all(b".").unwrap();
    out.flush().unwrap();
}
