//! The roles that a process can play. Another role is another row.

use std::{net::TcpListener, pin::Pin, sync::Arc};

use throng_core::Shutdown;
use throng_db::outbox::{Delivery, Relay};
use throng_queue::{DjangoBeat, Worker, WorkerConfig};

use super::Works;
use crate::{Bus, Result, task};

/// A part of the site that can run in a process of its own: `boxoffice worker`.
pub struct Role {
    /// Its name, which is also its command.
    pub name: &'static str,
    /// What it does, for `--help`.
    pub about: &'static str,
    pub(crate) listens: bool,
    pub(crate) play: fn(Duty) -> Pin<Box<dyn Future<Output = Result> + Send>>,
}

/// What a role gets to work with. It returns once `shutdown` was asked for and its work is done.
pub(crate) struct Duty {
    pub(crate) works: Arc<Works>,
    pub(crate) listener: Option<TcpListener>,
    pub(crate) shutdown: Shutdown,
}

/// Every role, in the order in which they start.
pub const ROLES: &[Role] = &[
    Role {
        name: "web",
        about: "Answer visitors",
        listens: true,
        play: |duty| Box::pin(play_web(duty)),
    },
    Role {
        name: "worker",
        about: "Run tasks and schedules",
        listens: false,
        play: |duty| Box::pin(play_worker(duty)),
    },
];

async fn play_web(duty: Duty) -> Result {
    let Some(listener) = duty.listener else {
        return Err(crate::Error::internal("the web role was started without a socket"));
    };
    duty.works.front.clone().serve(listener, duty.shutdown).await
}

async fn play_worker(duty: Duty) -> Result {
    let worker = duty.works.worker(WorkerConfig::default()).run(duty.shutdown.clone());
    let relay = duty.works.relay().run(duty.shutdown);
    let (worked, ()) = tokio::join!(worker, relay);
    worked?;
    Ok(())
}

impl Works {
    /// A worker that knows all tasks and schedules of the site, and runs those that the config wants.
    pub(crate) fn worker(&self, mut wants: WorkerConfig) -> Worker {
        let site = self.door.site();
        let config = site.config();
        wants.concurrency = config.concurrency;
        wants.drain = config.web.drain;
        wants.tasks = config.tasks.clone();
        wants.not_tasks = config.not_tasks.clone();
        wants.queues = if config.queues.is_empty() {
            let mut queues: Vec<String> =
                self.tasks.iter().map(|kind| kind.queue.to_owned()).collect();
            queues.extend(self.counters.iter().map(|counting| counting.queue.to_owned()));
            queues.push(throng_queue::DEFAULT_QUEUE.to_owned());
            queues.sort_unstable();
            queues.dedup();
            queues
        } else {
            config.queues.clone()
        };
        let mut worker = Worker::new(site.0.queue.clone()).config(wants);
        for kind in &self.tasks {
            let (site, run) = (site.clone(), kind.run);
            worker = worker
                .on(kind.name, kind.policy, move |delivery| run(site.clone(), delivery))
                .rate_key(kind.name, kind.rate_key);
        }
        for hearing in &self.receivers {
            let (site, run) = (site.clone(), hearing.run);
            let hear = move |signal, delivery| run(site.clone(), signal, delivery);
            worker = worker.on_signal(hearing.name, hearing.table, hearing.policy, hear);
        }
        for counting in &self.counters {
            let (site, run) = (site.clone(), counting.run);
            let write = move |counts| run(site.clone(), counts);
            worker = worker.on_counts(counting.name, counting.policy, write);
        }
        for schedule in &self.schedules {
            worker = worker.schedule(schedule.clone());
        }
        if let Some(queue) = &config.django_beat {
            let beat = DjangoBeat::new(site.0.db.clone()).default_queue(queue);
            let known = self.tasks.iter();
            let beat = known.fold(beat, |beat, kind| beat.task_queue(kind.name, kind.queue));
            worker = worker.django_beat(beat);
        }
        worker
    }
}

impl Works {
    /// Hands on what transactions left in the outbox.
    pub(crate) fn relay(&self) -> Relay<impl FnMut(Delivery) -> Delivering + Send + use<>> {
        let site = self.door.site();
        let queue = site.0.queue.clone();
        let bus = Bus { room: site.0.bus.clone(), db: site.0.db.clone() };
        Relay::new(site.0.db.clone(), move |delivery| -> Delivering {
            let (bus, queue) = (bus.clone(), queue.clone());
            Box::pin(async move {
                match delivery.entry.kind == throng_queue::OUTBOX_KIND {
                    true => task::deliver(&queue, delivery).await,
                    false => bus.deliver(delivery).await,
                }
            })
        })
    }
}

type Delivering = Pin<Box<dyn Future<Output = Result> + Send>>;

impl std::fmt::Debug for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Role").field("name", &self.name).finish_non_exhaustive()
    }
}
