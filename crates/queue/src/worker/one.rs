//! One run of one task: its limits, its panics, and the verdict.

use std::{pin::pin, sync::Arc, time::Duration};

use throng_core::Clock;
use tokio::sync::{oneshot, watch};

use super::{Delivery, Handler, Outcome, Panic, desk::Seen, follow};
use crate::{
    Kind, Message, Policy, Queue, backoff,
    engine::{Claimed, Ended, Lease, Verdict},
    metrics,
};

/// How a run came to its end.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) lease: Lease,
    /// The places that it took.
    pub(super) weight: usize,
    /// None when the run was stopped and its lease is lost or given back.
    pub(super) ended: Option<Ended>,
    pub(super) took: Duration,
    pub(super) message: Arc<Message>,
}

/// The ends of a run that the worker holds.
#[derive(Debug)]
pub(super) struct Strings {
    /// Asks the task to stop.
    pub(super) ask: watch::Sender<bool>,
    /// Stops it.
    pub(super) stop: oneshot::Sender<()>,
    /// The task, for whoever asks what runs here.
    pub(super) seen: Seen,
}

/// Prepares a run; the future does it.
pub(super) fn start(
    claimed: Claimed,
    handler: Handler,
    weight: usize,
    queue: Queue,
) -> (Strings, impl Future<Output = Finished> + Send + 'static) {
    let (ask, stopping) = watch::channel(false);
    let (stop, stopped) = oneshot::channel();
    let Claimed { lease, message, crashes } = claimed;
    let message = Arc::new(message);
    let seen = Seen { message: message.clone(), started_ms: Some(queue.clock().now_ms()) };
    let strings = Strings { ask: ask.clone(), stop, seen };
    let claimed = Held { lease, message, crashes };
    (strings, run(claimed, handler, weight, queue, ask, stopping, stopped))
}

/// A claimed task whose message others may look at.
struct Held {
    lease: Lease,
    message: Arc<Message>,
    crashes: u32,
}

async fn run(
    claimed: Held,
    handler: Handler,
    weight: usize,
    queue: Queue,
    ask: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    stopped: oneshot::Receiver<()>,
) -> Finished {
    let Held { lease, message, crashes } = claimed;
    let clock = queue.clock().clone();
    let policy = handler.policy_for(&message);
    let followed = message.embed().map(|embed| (message.clone(), embed));
    let (name, retries) = (message.name().to_owned(), message.retries());
    let started = clock.elapsed();
    let (max_retries, lease_of, queue_of) = (policy.max_retries, lease.clone(), queue.clone());
    let delivery = Delivery {
        message: message.clone(),
        crashes,
        max_retries,
        stopping,
        queue: queue_of,
        lease: lease_of,
    };
    let mut stopped = pin!(stopped);
    let outcome = {
        let mut work = pin!((handler.run)(delivery));
        let mut soft = pin!(limit(&clock, policy.soft_limit));
        let mut hard = pin!(limit(&clock, policy.hard_limit));
        let mut is_asked = false;
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => break Some(caught(outcome)),
                _ = &mut stopped => break None,
                () = &mut hard => {
                    let limit = policy.hard_limit.unwrap_or_default();
                    break Some(Outcome::retry(format_args!("it was stopped at its hard limit of {limit:?}")));
                }
                () = &mut soft, if !is_asked => {
                    is_asked = true;
                    ask.send_replace(true);
                }
            }
        }
    };
    let took = clock.elapsed().saturating_sub(started);
    let mut verdict = outcome.map(|outcome| judge(outcome, retries, &policy, clock.now_ms()));
    if let (Some(ending), Some((message, embed))) = (&verdict, &followed) {
        // Before the end is recorded: if this worker dies now, the task runs again, and what
        // follows is pushed again under the same ids.
        tokio::select! {
            biased;
            failed = follow::push(&queue, message, embed, ending) => {
                if let Err(error) = failed {
                    let reason = format!("what follows it cannot be pushed: {error}");
                    tracing::warn!(error = ?error, task.id = %lease.id, "task {}: {reason}", lease.id);
                    let again = Outcome::Retry { reason, after: None };
                    let again = if error.kind() == Kind::Retry { again } else { Outcome::dead(error) };
                    verdict = Some(judge(again, retries, &policy, clock.now_ms()));
                }
            }
            _ = &mut stopped => verdict = None,
        }
    }
    let ended = verdict.map(|verdict| {
        let id = &lease.id;
        match &verdict {
            Verdict::Retry { reason, .. } => {
                tracing::warn!(task.id = %id, task.name = name, task.retries = retries, "task {id} ({name}) failed and is tried again: {reason}");
            }
            Verdict::Dead(reason) => {
                tracing::error!(task.id = %id, task.name = name, task.retries = retries, "task {id} ({name}) is a dead letter: {reason}");
            }
            _ => tracing::debug!(task.id = %id, task.name = name, "task {id} ({name}) is done"),
        }
        metrics::ended(&name, how(&verdict), took);
        Ended { lease: lease.clone(), verdict }
    });
    Finished { lease, weight, ended, took, message }
}

async fn limit(clock: &Clock, limit: Option<Duration>) {
    match limit {
        Some(limit) => clock.sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn caught(outcome: Result<Outcome, Panic>) -> Outcome {
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Outcome::retry(format_args!("it panicked: {}", text.unwrap_or("without a message")))
    })
}

fn judge(outcome: Outcome, retries: u32, policy: &Policy, now_ms: i64) -> Verdict {
    match outcome {
        Outcome::Done(value) => Verdict::Done(value),
        Outcome::Dead { reason } => Verdict::Dead(short(reason)),
        Outcome::Retry { reason, .. } if retries >= policy.max_retries => {
            let tries = retries.saturating_add(1);
            Verdict::Dead(short(format!("{reason} (gave up after {tries} tries)")))
        }
        Outcome::Retry { reason, after } => {
            let wait = after.unwrap_or_else(|| policy.backoff.wait(retries, backoff::dice()));
            let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            Verdict::Retry { at_ms: now_ms.saturating_add(wait_ms), reason: short(reason) }
        }
    }
}

/// A reason is for reading: an error that quotes a megabyte is cut.
fn short(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        let end = (0..=MAX_REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

fn how(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Done(_) => "done",
        Verdict::Retry { .. } => "retry",
        _ => "dead",
    }
}

const MAX_REASON: usize = 2000;
