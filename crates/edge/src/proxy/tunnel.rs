//! WebSockets and other protocols that take a connection over.

use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Edge;
use crate::{Body, upstream::Upgraded};

/// Passes the answer to an upgrade on, and joins both connections once they are free.
pub(super) fn open(
    edge: &Edge,
    mut response: Response<Body>,
    visitor: Option<OnUpgrade>,
) -> Response<Body> {
    let back_end = response.extensions_mut().remove::<Upgraded>();
    let protocol = response.headers().get(header::UPGRADE).cloned();
    crate::cache::strip_hop(response.headers_mut());
    if let Some(protocol) = protocol {
        response.headers_mut().insert(header::UPGRADE, protocol);
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let Some(visitor) = visitor else {
        // A change of protocol that nobody asked for.
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        return refused;
    };
    // A service in this process talks over the visitor's connection itself.
    let Some(back_end) = back_end else { return response };
    response.extensions_mut().insert(crate::cache::Outcome::Pass);
    edge.inner.tasks.spawn(async move {
        let (Ok(visitor), Some((mut back_end, lease))) = (visitor.await, back_end.take()) else {
            return;
        };
        let mut visitor = TokioIo::new(visitor);
        // Either side may break off at any time; that ends the tunnel and is nobody's error.
        let _ = tokio::io::copy_bidirectional(&mut visitor, &mut back_end).await;
        // The server works on this as long as it is open.
        drop(lease);
    });
    response
}
