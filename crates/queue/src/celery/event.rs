//! Events: what a worker and its tasks do, as Celery's listeners read it.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::info;
use crate::{Message, TaskId, engine::Verdict};

/// Tells what happens; cheap to clone. What nobody has time to send is left out.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    shared: Arc<Shared>,
    events: mpsc::Sender<Value>,
}

#[derive(Debug)]
struct Shared {
    node: String,
    /// Whether task events are wanted.
    is_on: AtomicBool,
    /// Celery's logical clock.
    clock: AtomicU64,
    active: AtomicU64,
    /// Runs that ended, by task.
    ended: Mutex<HashMap<String, u64>>,
    now_ms: throng_core::Clock,
}

impl Teller {
    pub(crate) fn new(
        node: &str,
        is_on: bool,
        clock: throng_core::Clock,
    ) -> (Self, mpsc::Receiver<Value>) {
        let (events, told) = mpsc::channel(WAITING);
        let shared = Shared {
            node: node.to_owned(),
            is_on: AtomicBool::new(is_on),
            clock: AtomicU64::new(1),
            active: AtomicU64::new(0),
            ended: Mutex::default(),
            now_ms: clock,
        };
        (Self { shared: Arc::new(shared), events }, told)
    }

    pub(super) fn switch(&self, is_on: bool) -> bool {
        self.shared.is_on.swap(is_on, Ordering::SeqCst)
    }

    /// The next time of the logical clock.
    pub(super) fn tick(&self) -> u64 {
        self.shared.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Puts the logical clock after another's.
    pub(super) fn hear(&self, clock: u64) {
        self.shared.clock.fetch_max(clock, Ordering::SeqCst);
        self.tick();
    }

    pub(super) fn totals(&self) -> HashMap<String, u64> {
        self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn received(&self, message: &Message) {
        if !self.shared.is_on.load(Ordering::Relaxed) {
            return;
        }
        let (args, kwargs) = info::shown(message);
        let header = |name: &str| message.header_value(name);
        self.tell(
            "task-received",
            &message.id(),
            json!({
                "name": message.name(),
                "args": args,
                "kwargs": kwargs,
                "root_id": header("root_id"),
                "parent_id": header("parent_id"),
                "retries": message.retries(),
                "eta": header("eta"),
                "expires": header("expires"),
            }),
        );
    }

    pub(crate) fn started(&self, message: &Message) {
        self.shared.active.fetch_add(1, Ordering::Relaxed);
        if self.shared.is_on.load(Ordering::Relaxed) {
            self.tell("task-started", &message.id(), json!({}));
        }
    }

    /// A run has ended; without a verdict it was stopped.
    pub(crate) fn ended(&self, message: &Message, verdict: Option<&Verdict>, took: Duration) {
        self.shared.active.fetch_sub(1, Ordering::Relaxed);
        {
            let mut ended = self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
            match ended.get_mut(message.name()) {
                Some(count) => *count += 1,
                None => drop(ended.insert(message.name().to_owned(), 1)),
            }
        }
        if !self.shared.is_on.load(Ordering::Relaxed) {
            return;
        }
        let id = message.id();
        let failed = |reason: &str| json!({"exception": format!("Exception({reason:?})"), "traceback": reason});
        match verdict {
            Some(Verdict::Done(result)) => {
                let result = match result {
                    Value::Null => "None".to_owned(),
                    result => result.to_string(),
                };
                let fields = json!({"result": result, "runtime": took.as_secs_f64()});
                self.tell("task-succeeded", &id, fields);
            }
            Some(Verdict::Dead(reason)) => self.tell("task-failed", &id, failed(reason)),
            Some(Verdict::Retry { reason, .. }) => self.tell("task-retried", &id, failed(reason)),
            _ => self.revoked(&id, false),
        }
    }

    pub(crate) fn revoked(&self, id: &TaskId, is_expired: bool) {
        if self.shared.is_on.load(Ordering::Relaxed) {
            let fields = json!({"terminated": !is_expired, "signum": null, "expired": is_expired});
            self.tell("task-revoked", id, fields);
        }
    }

    fn tell(&self, kind: &str, id: &TaskId, fields: Value) {
        let mut event = self.dressed(kind, fields);
        event["uuid"] = json!(id);
        // Full: whoever listens sees what comes next.
        let _ = self.events.try_send(event);
    }

    pub(super) fn of_worker(&self, kind: &str) -> Value {
        let processed: u64 = self.totals().values().sum();
        self.dressed(
            kind,
            json!({
                "freq": BEAT.as_secs_f64(),
                "active": self.shared.active.load(Ordering::Relaxed),
                "processed": processed,
                "loadavg": load(),
                "sw_ident": "throng",
                "sw_ver": env!("CARGO_PKG_VERSION"),
                "sw_sys": "Linux",
            }),
        )
    }

    fn dressed(&self, kind: &str, mut fields: Value) -> Value {
        fields["type"] = json!(kind);
        fields["hostname"] = json!(self.shared.node);
        fields["utcoffset"] = json!(0);
        fields["pid"] = json!(std::process::id());
        fields["clock"] = json!(self.tick());
        fields["timestamp"] = json!(self.shared.now_ms.now_ms() as f64 / 1000.0);
        fields
    }
}

/// How busy the machine is, as far as it says.
fn load() -> Vec<f64> {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let loads = text.split_whitespace().take(3).filter_map(|word| word.parse().ok());
    let loads: Vec<f64> = loads.collect();
    if loads.len() == 3 { loads } else { vec![0.0; 3] }
}

/// How often a worker says that it lives.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// Events that wait to be sent.
const WAITING: usize = 10_000;
