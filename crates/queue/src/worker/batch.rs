//! Tasks of one kind that are done together: many in one write.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{Delivery, Outcome, Worker};
use crate::Policy;

impl Worker {
    /// Runs tasks called `name` together: those that start within `wait` of the first are given to
    /// `handler` at once, at most as many as run at once here. Its outcome is that of each of them.
    #[must_use]
    pub fn on_batch<F, O>(
        self,
        name: impl Into<String>,
        policy: Policy,
        wait: Duration,
        handler: impl Fn(Vec<Delivery>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome> + Send + 'static,
    {
        let run = move |all: Vec<Delivery>| -> BoxFuture<'static, Outcome> {
            let work = handler(all);
            Box::pin(async move { work.await.into() })
        };
        let table = Arc::new(Table { run: Box::new(run), wait, seats: Mutex::default() });
        self.on(name, policy, move |delivery| {
            let table = table.clone();
            async move { table.join(delivery).await }
        })
    }
}

/// Where tasks sit down until there are enough.
struct Table {
    run: Box<dyn Fn(Vec<Delivery>) -> BoxFuture<'static, Outcome> + Send + Sync>,
    wait: Duration,
    seats: Mutex<Vec<Seat>>,
}

struct Seat {
    delivery: Delivery,
    told: oneshot::Sender<Outcome>,
}

impl Table {
    async fn join(self: Arc<Self>, delivery: Delivery) -> Outcome {
        let (told, outcome) = oneshot::channel();
        let is_first = {
            let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
            seats.push(Seat { delivery, told });
            seats.len() == 1
        };
        if is_first {
            // On its own: a task that is stopped must not take the others' outcome with it.
            drop(tokio::spawn(self.clone().serve()));
        }
        outcome.await.unwrap_or_else(|_| Outcome::retry("the tasks done together panicked"))
    }

    async fn serve(self: Arc<Self>) {
        // Real time, as with counters: this is how work meets, and nothing is due by it.
        tokio::time::sleep(self.wait).await;
        let seats = std::mem::take(&mut *self.seats.lock().unwrap_or_else(PoisonError::into_inner));
        // Whoever was stopped meanwhile is not done: it runs again elsewhere.
        let (deliveries, told): (Vec<Delivery>, Vec<_>) = seats
            .into_iter()
            .filter(|seat| !seat.told.is_closed())
            .map(|seat| (seat.delivery, seat.told))
            .unzip();
        if deliveries.is_empty() {
            return;
        }
        let outcome = (self.run)(deliveries).await;
        for told in told {
            let _ = told.send(outcome.clone());
        }
    }
}
