//! Buffered counters: what happens far more often than it can be written, such as views of a page.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use throng_queue::{Counters, Outcome, Policy};

use crate::{Ctx, Error, ErrorKind, Result, Site};

/// Counts many things of a kind. [`Ctx::count`] costs no statement and no wait: the increments of a
/// process leave it as one task a second, and a worker writes all that meet there at once.
///
/// A process that is killed loses the increments of its last second; one that is stopped sends them
/// first. A worker that is killed between its write and the end of its task counts them again.
///
/// ```
/// use std::collections::BTreeMap;
/// use throng::{Counter, Ctx, Result};
///
/// struct Views;
///
/// impl Counter for Views {
///     const NAME: &'static str = "views";
///
///     async fn write(cx: Ctx, counts: BTreeMap<String, i64>) -> Result {
///         for (show, by) in counts {
///             tracing::info!("show {show} was seen {by} times more"); // one UPDATE for them all
///         }
///         Ok(())
///     }
/// }
///
/// # fn app() -> throng::App { throng::App::new("shows").counter::<Views>() }
/// async fn show(cx: Ctx) -> Result<&'static str> {
///     cx.count::<Views>(7, 1)?;
///     Ok("a show")
/// }
/// ```
pub trait Counter: Send + Sync + 'static {
    /// The name under which its tasks travel and stand in logs. Never change it while tasks wait.
    const NAME: &'static str;
    /// The queue they wait in.
    const QUEUE: &'static str = throng_queue::DEFAULT_QUEUE;

    /// How often a write is tried, with which waits, and how long it may take.
    #[must_use]
    fn policy() -> Policy {
        Policy::default()
    }

    /// Adds to what is kept: each key once, with the sum of its increments. All in one transaction,
    /// since a write that fails is made again as a whole.
    fn write(cx: Ctx, counts: BTreeMap<String, i64>) -> impl Future<Output = Result> + Send;
}

impl Ctx {
    /// Adds `by` to what `C` counts of `key`, some time in the next seconds.
    ///
    /// # Errors
    /// An internal error when the app has no such [`counter`](crate::App::counter).
    pub fn count<C: Counter>(&self, key: impl ToString, by: i64) -> Result {
        let counters = self.counters().get(C::NAME).ok_or_else(|| {
            Error::internal(format!("the app has no counter `{}`; `App::counter` adds it", C::NAME))
        })?;
        counters.note(key.to_string(), by);
        Ok(())
    }
}

/// A registered counter, without its type.
pub(crate) struct Counting {
    pub(crate) name: &'static str,
    pub(crate) queue: &'static str,
    pub(crate) policy: Policy,
    pub(crate) run: fn(Site, BTreeMap<String, i64>) -> Running,
}

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Counting {
    pub(crate) fn of<C: Counter>() -> Self {
        Self {
            name: C::NAME,
            queue: C::QUEUE,
            policy: C::policy(),
            run: |site, counts| Box::pin(run::<C>(site, counts)),
        }
    }

    /// Where a process collects what it counts.
    pub(crate) fn counters(&self, queue: &throng_queue::Queue) -> Counters {
        Counters::new(queue.clone(), self.name, self.queue)
    }
}

async fn run<C: Counter>(site: Site, counts: BTreeMap<String, i64>) -> Outcome {
    match C::write(site.ctx(), counts).await {
        Ok(()) => Outcome::done(),
        Err(error) if error.kind() == ErrorKind::Refuse => Outcome::dead(error),
        Err(error) => Outcome::Retry { reason: error.to_string(), after: error.retry_after() },
    }
}
