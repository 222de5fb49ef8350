//! Durable tasks: push them with your data or alone, and a worker runs each at least once.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use throng_core::{Clock, Shutdown};
//! use throng_db::Db;
//! use throng_queue::{Delivery, MIGRATIONS, Message, Queue, State, Task, Worker};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Greet { name: String }
//!
//! impl Task for Greet { const NAME: &'static str = "greet"; }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("site.db");
//! let db = Db::sqlite(path).await?;
//! let _ = db.migrate(&[MIGRATIONS]).await?;
//! let queue = Queue::database(db, Clock::system());
//! let id = queue.push(Message::of(&Greet { name: "Ada".into() })?).await?;
//!
//! let worker = Worker::new(queue.clone()).on_task(|task: Greet, _: Delivery| async move {
//!     println!("hello {}", task.name);
//! });
//! let (stop, shutdown) = Shutdown::pair();
//! let running = tokio::spawn(worker.run(shutdown));
//! let record = queue.wait(&id, std::time::Duration::from_secs(10)).await?;
//! assert_eq!(record.state, State::Done);
//! stop.request();
//! running.await??;
//! # Ok(())
//! # }
//! ```
//!
//! A handler gives back an [`Outcome`], or `()` when nothing can go wrong. It is asked for by name
//! where the arguments are not a struct of ours:
//!
//! ```
//! # use std::{io, time::Duration};
//! # use throng_queue::{Delivery, Outcome, Policy, Worker};
//! # async fn shrink(_: &str) -> io::Result<u64> { Ok(0) }
//! # fn with_shrink(worker: Worker) -> Worker {
//! let policy = Policy { hard_limit: Some(Duration::from_secs(60)), ..Policy::default() };
//! worker.on("shrink", policy, |run: Delivery| async move {
//!     match run.arguments::<(String,)>() {
//!         Ok((picture,)) => Outcome::of(shrink(&picture).await), // an error is tried again
//!         Err(error) => error.into(), // wrong arguments never are: a dead letter
//!     }
//! })
//! # }
//! ```
//!
//! **How it thinks.** A task is a [`Message`] of Celery's protocol 2 on every engine, so that it
//! can be run by a worker in another language, or moved. A worker leases tasks and prolongs the
//! leases by heartbeats; when it dies, they run out and the tasks run again elsewhere. A worker
//! that lost a lease can not record anything under it. So a task runs at least once: make it
//! idempotent by its id, or say [`at_most_once`](Message::at_most_once) and look at the dead
//! letters.
//!
//! A failure is tried again by the task's [`Policy`]: waits that double, with full jitter. What
//! fails too often, has wrong arguments, or takes its worker down three times is a dead letter with
//! a reason, which can be listed, edited and retried. What no worker knows is parked until one does.
//! Priorities run from 0 to 9 and **higher runs first**, then in the order pushed. (Celery on
//! RabbitMQ does the same; Celery on Redis does the opposite.)
//!
//! A worker of the pushing process is woken at once, by a push after it is durable and by
//! [`push_in`](Queue::push_in) right after the commit. Those of other processes are told on
//! PostgreSQL, Redis and RabbitMQ; elsewhere they look: 20 ms after the last task, then ever less
//! often, down to every 250 ms ([`poll`](WorkerConfig::poll)). Held-back tasks stay in the engine,
//! never in a worker.
//!
//! | URL | needs | survives a restart | shared between processes | cannot promise |
//! |---|---|---|---|---|
//! | `database:` | the site's database | yes | yes, all that open it | exactly once; order among retries |
//! | `redis://host/0` | feature `redis`, and the site's database while Redis is away | as Redis is set | yes, and with Celery | the same |
//! | `amqp://one,two/` | feature `rabbitmq`, the site's database | yes | yes, and with Celery | the same; order between nodes; records of light tasks |
//!
//! | for | see |
//! |---|---|
//! | pushing, waiting, looking, setting right | [`Queue`], [`Message`], [`Record`] |
//! | typed tasks, retries, limits, rates | [`Task`], [`Policy`], [`Backoff`], [`Rate`] |
//! | running them | [`Worker`], [`WorkerConfig`], [`Delivery`], [`Outcome`] |
//! | what runs by the clock | [`Schedule`], [`Crontab`], [`DjangoBeat`] |
//! | changes to rows, and what is counted often | [`Signal`], [`Counters`] |
//! | what follows a task | [`Message::then`], [`Queue::push_group`], [`Queue::push_chord`] |
//! | an engine of your own | [`engine::Engine`], [`conformance`] |
//! | what holds on which engine, and moving from Celery | `docs/queue.md` |

mod backoff;
mod celery;
pub mod conformance;
mod counters;
pub mod engine;
mod error;
mod id;
mod message;
mod metrics;
mod queue;
mod rate;
mod record;
mod schedule;
mod signal;
mod task;
mod time;
mod transfer;
mod worker;

pub use backoff::Backoff;
pub use counters::Counters;
pub use engine::database::MIGRATIONS;
pub use error::{Error, Result};
pub use id::TaskId;
pub use message::{Body, Message};
pub use queue::Queue;
pub use rate::Rate;
pub use record::{Count, Filter, Record, State};
pub use schedule::{Crontab, DjangoBeat, Schedule};
pub use signal::{Change, Signal};
pub use task::{Policy, Task};
pub use throng_core::Kind;
pub use transfer::Moved;
pub use worker::{Delivery, Outcome, Report, Worker, WorkerConfig};

/// The queue of tasks that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// The kind of outbox entries that [`Queue::push_in`] writes where the queue is not in the
/// database; whoever relays the outbox gives their payloads to [`Queue::deliver`].
pub const OUTBOX_KIND: &str = "task";

/// The name under which a message that cannot be read is parked, its bytes as the argument.
pub const MALFORMED: &str = "throng.malformed";
