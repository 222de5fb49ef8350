//! The leader's round: one worker fires what is due, the others stand by.

use std::time::Duration;

use throng_core::Shutdown;

use super::Schedule;
use crate::{Queue, Result, engine::Fire, metrics};

/// Fires the schedules while this holder leads, until shutdown.
pub(crate) async fn lead(
    queue: Queue,
    schedules: Vec<Schedule>,
    holder: String,
    shutdown: Shutdown,
) {
    let clock = queue.clock().clone();
    while !shutdown.is_requested() {
        let wait = match round(&queue, &schedules, &holder).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(error = ?error, "cannot look after the schedules: {error}");
                STAND_BY
            }
        };
        tokio::select! {
            () = clock.sleep(wait) => {}
            () = shutdown.requested() => {}
        }
    }
    // A lease of no length: whoever asks next leads.
    if let Err(error) = queue.engine().lead(ROLE, &holder, Duration::ZERO).await {
        tracing::debug!(error = ?error, "cannot give up the schedules: {error}");
    }
}

/// One look at every schedule; how long until the next.
async fn round(queue: &Queue, schedules: &[Schedule], holder: &str) -> Result<Duration> {
    if !queue.engine().lead(ROLE, holder, LEASE).await? {
        return Ok(STAND_BY);
    }
    let mut wait = STAND_BY;
    for schedule in schedules {
        let next_ms = fire_due(queue, schedule).await?;
        if let Some(next_ms) = next_ms {
            let left_ms = u64::try_from(next_ms - queue.clock().now_ms()).unwrap_or(0);
            wait = wait.min(Duration::from_millis(left_ms));
        }
    }
    Ok(wait)
}

/// Fires all of one schedule's times that have come; the next that has not.
async fn fire_due(queue: &Queue, schedule: &Schedule) -> Result<Option<i64>> {
    let engine = queue.engine();
    let now_ms = queue.clock().now_ms();
    let mut last_ms = engine.last_fire(&schedule.name, now_ms).await?;
    let catch_up_ms = i64::try_from(schedule.catch_up.as_millis()).unwrap_or(i64::MAX);
    let oldest_ms = now_ms.saturating_sub(catch_up_ms);
    if schedule.next(last_ms).is_some_and(|at_ms| at_ms < oldest_ms) {
        let name = &schedule.name;
        tracing::warn!(schedule = %name, "schedule {name} skips what it missed over {:?} ago", schedule.catch_up);
        let at_ms = oldest_ms - 1;
        let skip = Fire { schedule: name, last_ms, at_ms, message: None };
        if !engine.fire(&skip).await? {
            return Ok(Some(now_ms));
        }
        last_ms = at_ms;
    }
    loop {
        let Some(at_ms) = schedule.next(last_ms) else { return Ok(None) };
        if at_ms > now_ms {
            return Ok(Some(at_ms));
        }
        let message = schedule.message(at_ms);
        let (name, id) = (&schedule.name, message.id());
        let fire = Fire { schedule: name, last_ms, at_ms, message: Some(&message) };
        if !engine.fire(&fire).await? {
            // Another leader was faster; the next round reads where it is.
            return Ok(Some(now_ms));
        }
        metrics::fired(name);
        tracing::debug!(schedule = %name, task.id = %id, "schedule {name} pushed task {id}");
        last_ms = at_ms;
    }
}

const ROLE: &str = "schedules";
/// A leader that dies is followed after this long.
const LEASE: Duration = Duration::from_secs(15);
const STAND_BY: Duration = Duration::from_secs(5);
