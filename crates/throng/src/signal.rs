//! Receivers of delayed signals: what a site does, later and apart, when a row was saved or deleted.

use std::{future::Future, pin::Pin};

use throng_queue::{Delivery, Outcome, Policy, Signal};

use crate::{Ctx, ErrorKind, Result, Site, ctx::run::Run};

/// Hears of every change to a table that the site signals with
/// [`Queue::signal_in`](crate::Queue::signal_in). Each receiver has a task of its own for each
/// signal, which is tried again for itself alone.
///
/// ```
/// use throng::{Ctx, Receiver, Result, queue::Signal};
///
/// struct Search;
///
/// impl Receiver for Search {
///     const NAME: &'static str = "search";
///     const TABLE: &'static str = "event";
///
///     async fn hear(cx: Ctx, signal: Signal) -> Result {
///         if signal.touches("title") {
///             tracing::info!("event {} has another title", signal.id);
///         }
///         Ok(())
///     }
/// }
///
/// # fn app() -> throng::App { throng::App::new("shop").receiver::<Search>() }
/// async fn rename(cx: Ctx) -> Result {
///     let tx = cx.db.begin().await?;
///     // … the event is written with `&tx` …
///     cx.queue.signal_in(&tx, Signal::saved("event", 7).columns(["title"])).await?;
///     tx.commit().await?;
///     Ok(())
/// }
/// ```
pub trait Receiver: Send + Sync + 'static {
    /// The name under which its tasks stand in the queue and in logs, after `signal.`.
    const NAME: &'static str;
    /// The table whose rows it wants to hear of.
    const TABLE: &'static str;

    /// How often it is tried, with which waits, and how long it may take.
    #[must_use]
    fn policy() -> Policy {
        Policy::default()
    }

    /// Does what is to be done. The row is to be read anew: it may have changed since, or be gone.
    fn hear(cx: Ctx, signal: Signal) -> impl Future<Output = Result> + Send;
}

/// A registered receiver, without its type.
pub(crate) struct Hearing {
    pub(crate) name: &'static str,
    pub(crate) table: &'static str,
    pub(crate) policy: Policy,
    pub(crate) run: fn(Site, Signal, Delivery) -> Running,
}

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Hearing {
    pub(crate) fn of<R: Receiver>() -> Self {
        Self {
            name: R::NAME,
            table: R::TABLE,
            policy: R::policy(),
            run: |site, signal, delivery| Box::pin(run::<R>(site, signal, delivery)),
        }
    }
}

async fn run<R: Receiver>(site: Site, signal: Signal, delivery: Delivery) -> Outcome {
    let run = Run::of(delivery);
    match R::hear(run.ctx(&site), signal).await {
        Ok(()) => run.done(),
        Err(error) if error.kind() == ErrorKind::Refuse => Outcome::dead(error),
        Err(error) => Outcome::Retry { reason: error.to_string(), after: error.retry_after() },
    }
}
