//! Requests that change something are carried through, whether or not their visitor waits.
//!
//! A connection that closes drops what answers it, at whichever await that is. For a page that is read
//! this saves work. What changes something would stop half-way: after the commit and before the pages
//! that show it are purged, or after the payment and before the order.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use axum::response::IntoResponse;
use http::StatusCode;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};

use super::door::Page;
use crate::Error;

/// The requests that are carried through.
pub(super) struct Finish {
    /// One for each. A request that finds none waits as long as its visitor does, so that those who
    /// send and leave at once cannot pile up more than that.
    places: Arc<Semaphore>,
    under_way: Mutex<JoinSet<()>>,
}

impl Finish {
    /// Carries at most `most` through at once.
    pub(super) fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), under_way: Mutex::default() }
    }

    /// The page that `work` makes. Once begun, it goes on when this is dropped.
    pub(super) async fn run(&self, work: impl Future<Output = Page> + Send + 'static) -> Page {
        // The semaphore is never closed, so that there always is a permit.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (tell, told) = oneshot::channel();
        {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            while under_way.try_join_next().is_some() {}
            under_way.spawn(async move {
                // Nobody may be there to hear it.
                let _ = tell.send(work.await);
                drop(place);
            });
        }
        told.await.unwrap_or_else(|_| Page {
            // The process ends, or an error page panicked.
            route: String::new(),
            routes: String::new(),
            response: Error::plain(StatusCode::INTERNAL_SERVER_ERROR).into_response(),
        })
    }

    /// Waits until all have ended. Each does so within `web.request_timeout_ms`.
    pub(super) async fn all(&self) {
        let mut under_way = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *under_way)
        };
        while under_way.join_next().await.is_some() {}
    }
}
