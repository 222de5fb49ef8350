//! What the queue measures.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Declares every metric with its help line; again does nothing new.
pub(crate) fn describe() {
    describe_counter!(PUSHED, Unit::Count, "Tasks pushed, by queue");
    describe_counter!(ENDED, Unit::Count, "Runs of tasks that ended, by task and how they ended");
    describe_counter!(LOST, Unit::Count, "Leases that a worker lost while it held the task");
    describe_counter!(REQUEUED, Unit::Count, "Tasks of dead workers that were queued again");
    describe_counter!(FIRED, Unit::Count, "Tasks that a schedule pushed, by schedule");
    describe_counter!(PUT_OFF, Unit::Count, "Times that a task was over its rate, by task");
    describe_gauge!(RUNNING, Unit::Count, "Tasks running in this process");
    describe_histogram!(RUN_SECONDS, Unit::Seconds, "How long a task ran, by task");
}

pub(crate) fn pushed(queue: &str) {
    counter!(PUSHED, "queue" => queue.to_owned()).increment(1);
}

pub(crate) fn ended(task: &str, how: &'static str, took: Duration) {
    counter!(ENDED, "task" => task.to_owned(), "how" => how).increment(1);
    histogram!(RUN_SECONDS, "task" => task.to_owned()).record(took.as_secs_f64());
}

pub(crate) fn lost() {
    counter!(LOST).increment(1);
}

pub(crate) fn requeued(tasks: u64) {
    counter!(REQUEUED).increment(tasks);
}

pub(crate) fn fired(schedule: &str) {
    counter!(FIRED, "schedule" => schedule.to_owned()).increment(1);
}

pub(crate) fn put_off(task: &str) {
    counter!(PUT_OFF, "task" => task.to_owned()).increment(1);
}

pub(crate) fn running(tasks: usize) {
    gauge!(RUNNING).set(tasks as f64);
}

const PUSHED: &str = "throng_queue_pushed_tasks";
const ENDED: &str = "throng_queue_ended_runs";
const LOST: &str = "throng_queue_lost_leases";
const REQUEUED: &str = "throng_queue_requeued_tasks";
const FIRED: &str = "throng_queue_fired_tasks";
const PUT_OFF: &str = "throng_queue_put_off_tasks";
const RUNNING: &str = "throng_queue_running_tasks";
const RUN_SECONDS: &str = "throng_queue_run_seconds";
