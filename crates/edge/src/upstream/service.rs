//! A back end in this process.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::{Body, body::BoxError};

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// A service whose type nobody needs to know.
pub(super) struct Local {
    call: Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>,
}

impl Local {
    pub(super) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // A service need not be shareable; its clones are used, one for each request.
        let service = Mutex::new(service);
        let call = move |request| -> Answer {
            let mut own = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(async move {
                poll_fn(|cx| own.poll_ready(cx)).await.map_err(Into::into)?;
                let answer = own.call(request).await.map_err(Into::into)?;
                Ok(answer.map(Body::new))
            })
        };
        Self { call: Box::new(call) }
    }

    pub(super) fn call(&self, request: Request<Body>) -> Answer {
        (self.call)(request)
    }
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Local")
    }
}
