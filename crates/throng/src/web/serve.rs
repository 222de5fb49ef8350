//! The web role on a socket: accepts, bounds, and drains without losing a request.

use std::{convert::Infallible, net::TcpListener, pin::pin, sync::Arc, time::Duration};

use axum::{body::Body, extract::ConnectInfo};
use futures_util::FutureExt;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use throng_core::Shutdown;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{door::Door, metrics::Connected};
use crate::Result;

/// Serves until `shutdown`, then lets what is under way finish, for `web.drain_ms` at most.
///
/// A keep-alive connection is not cut while a request may be on its way: its next answer says
/// `Connection: close`, and only one that stays silent for [`SILENCE`] is closed by us.
pub(crate) async fn serve(listener: TcpListener, door: Arc<Door>, shutdown: Shutdown) -> Result {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let web = door.site().config().web.clone();
    let places = Arc::new(Semaphore::new(web.max_connections));
    let mut connections = JoinSet::new();
    let open = |stream: TcpStream, place| {
        let (door, shutdown) = (Arc::clone(&door), shutdown.clone());
        connection(stream, place, door, shutdown, web.header_timeout)
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            Some(_) = connections.join_next() => {}
            (accepted, place) = accept(&listener, &places) => match accepted {
                Ok(stream) => drop(connections.spawn(open(stream, place))),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of files or memory: others must give some back first.
                    tracing::warn!(%error, "cannot accept connections: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    if !door.site().is_handed_over() {
        // Nobody else will ever accept those that the system has connected already.
        while let Some((Ok(stream), place)) = accept(&listener, &places).now_or_never() {
            drop(connections.spawn(open(stream, place)));
        }
    }
    drop(listener);
    let all_done = async {
        while connections.join_next().await.is_some() {}
        door.finish().await;
    };
    if tokio::time::timeout(web.drain, all_done).await.is_err() {
        let left = connections.len();
        if left == 0 {
            tracing::warn!("requests whose visitors had left did not finish in time");
            return Ok(());
        }
        tracing::warn!(
            connections = left,
            "closing {left} connections that did not finish in time"
        );
        connections.shutdown().await;
    }
    Ok(())
}

/// The next connection, once there is a place for it. Cancel safe.
async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> (std::io::Result<TcpStream>, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so that there always is a permit.
    let place = Arc::clone(places).acquire_owned().await.ok();
    (listener.accept().await.map(|(stream, _)| stream), place)
}

async fn connection(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    door: Arc<Door>,
    shutdown: Shutdown,
    header_timeout: Duration,
) {
    let _connected = Connected::new();
    let _ = stream.set_nodelay(true);
    let client = stream.peer_addr().ok().map(ConnectInfo);
    let service = service_fn(|mut request: Request<Incoming>| {
        let door = Arc::clone(&door);
        if let Some(client) = client {
            request.extensions_mut().insert(client);
        }
        async move { Ok::<_, Infallible>(door.answer(request.map(Body::new)).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    // Errors here are the client's: it went away or did not speak HTTP.
    let is_over = tokio::select! {
        biased;
        _ = served.as_mut() => true,
        () = shutdown.requested() => false,
    };
    if !is_over && tokio::time::timeout(SILENCE, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = served.await;
    }
    drop(place);
}

/// Whether accepting failed because of the one connection that was to be accepted.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// How long an idle connection may still bring a request after the process was asked to stop.
const SILENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);
