//! One run of one task: its limits, its panics, and the verdict.

use std::{
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{FutureExt as _, OptionFuture};
use throng_core::Clock;

use super::{Delivery, Handler, Outcome, Panic, Run, course::Course, follow};
use crate::{
    Kind, Policy, Queue, backoff,
    engine::{Claimed, Ended, Verdict},
    metrics,
};

/// How a run came to its end.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) course: Arc<Course>,
    /// The places that it took.
    pub(super) weight: usize,
    /// None when the run was stopped and its lease is lost or given back.
    pub(super) ended: Option<Ended>,
    pub(super) took: Duration,
}

/// Prepares a run; the future does it.
pub(super) fn start(
    claimed: Claimed,
    handler: &Handler,
    weight: usize,
    queue: Queue,
) -> (Arc<Course>, impl Future<Output = Finished> + Send + 'static) {
    let policy = handler.policy_for(&claimed.message);
    let course = Arc::new(Course::new(claimed, policy, queue));
    (course.clone(), whole(course, handler.run.clone(), weight))
}

/// What a handler leaves behind may panic when it is dropped. Then too the run has an end.
async fn whole(course: Arc<Course>, handler: Run, weight: usize) -> Finished {
    let run = AssertUnwindSafe(run(course.clone(), handler, weight)).catch_unwind();
    let panic = match run.await {
        Ok(finished) => return finished,
        Err(panic) => panic,
    };
    let (retries, now_ms) = (course.message.retries(), course.queue.clock().now_ms());
    let verdict = judge(caught(Err(panic)), retries, &course.policy, now_ms);
    tell(&course, &verdict);
    metrics::ended(course.message.name(), how(&verdict), Duration::ZERO);
    let ended = Some(Ended { lease: course.lease.clone(), verdict });
    Finished { weight, ended, took: Duration::ZERO, course }
}

/// There may be tens of thousands of these at once: what few runs need is in boxes.
async fn run(course: Arc<Course>, handler: Run, weight: usize) -> Finished {
    let (clock, policy) = (course.queue.clock(), &course.policy);
    let retries = course.message.retries();
    let embed = course.message.embed();
    let started = clock.elapsed();
    let mut stopped = pin!(course.stopped());
    let outcome = {
        let mut work = handler(Delivery { course: course.clone() });
        let mut soft = limit(clock, policy.soft_limit);
        let mut hard = limit(clock, policy.hard_limit);
        let mut is_asked = false;
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => break Some(caught(outcome)),
                () = &mut stopped => break None,
                Some(()) = &mut hard => {
                    let limit = policy.hard_limit.unwrap_or_default();
                    break Some(Outcome::retry(format_args!("it was stopped at its hard limit of {limit:?}")));
                }
                Some(()) = &mut soft, if !is_asked => {
                    is_asked = true;
                    course.ask();
                }
            }
        }
    };
    let took = clock.elapsed().saturating_sub(started);
    let mut verdict = outcome.map(|outcome| judge(outcome, retries, policy, clock.now_ms()));
    if let (Some(ending), Some(embed)) = (&verdict, &embed) {
        // Before the end is recorded: if this worker dies now, the task runs again, and what
        // follows is pushed again under the same ids.
        tokio::select! {
            biased;
            failed = Box::pin(follow::push(&course.queue, &course.message, embed, ending)) => {
                if let Err(error) = failed {
                    let (id, reason) = (&course.lease.id, format!("what follows it cannot be pushed: {error}"));
                    tracing::warn!(error = ?error, task.id = %id, "task {id}: {reason}");
                    let again = Outcome::Retry { reason, after: None };
                    let again = if error.kind() == Kind::Retry { again } else { Outcome::dead(error) };
                    verdict = Some(judge(again, retries, policy, clock.now_ms()));
                }
            }
            () = &mut stopped => verdict = None,
        }
    }
    let ended = verdict.map(|verdict| {
        tell(&course, &verdict);
        metrics::ended(course.message.name(), how(&verdict), took);
        Ended { lease: course.lease.clone(), verdict }
    });
    Finished { weight, ended, took, course: course.clone() }
}

fn tell(course: &Course, verdict: &Verdict) {
    let (id, name, retries) = (&course.lease.id, course.message.name(), course.message.retries());
    match verdict {
        Verdict::Retry { reason, .. } => {
            tracing::warn!(task.id = %id, task.name = name, task.retries = retries, "task {id} ({name}) failed and is tried again: {reason}");
        }
        Verdict::Dead(reason) => {
            tracing::error!(task.id = %id, task.name = name, task.retries = retries, "task {id} ({name}) is a dead letter: {reason}");
        }
        _ => tracing::debug!(task.id = %id, task.name = name, "task {id} ({name}) is done"),
    }
}

type Alarm<'c> = OptionFuture<Pin<Box<dyn Future<Output = ()> + Send + 'c>>>;

fn limit(clock: &Clock, limit: Option<Duration>) -> Alarm<'_> {
    let alarm =
        |limit| -> Pin<Box<dyn Future<Output = ()> + Send + '_>> { Box::pin(clock.sleep(limit)) };
    limit.map(alarm).into()
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
