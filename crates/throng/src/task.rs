//! Work for later: the task trait that authors implement, and the queue as a context offers it.

use std::{future::Future, ops::Deref, pin::Pin, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use throng_db::{Db, Tx, outbox};
use throng_queue::{Delivery, Message, Outcome, Policy, Signal, TaskId};

use crate::{
    Ctx, ErrorKind, Result, Site,
    ctx::{run::Run, seen},
};

/// A kind of task: its fields are the arguments, [`Task::run`] is the work.
///
/// A task runs at least once: after a crash it runs again, so the work must bear repetition. One
/// that fails is tried again with growing waits, unless its error says that it would be refused
/// again ([`Error::refused`](crate::Error::refused), not found…); then it goes to the dead letters.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use throng::{Ctx, Result, Task};
///
/// #[derive(Serialize, Deserialize)]
/// struct MailTicket {
///     order: i64,
/// }
///
/// impl Task for MailTicket {
///     const NAME: &'static str = "mail_ticket";
///
///     async fn run(self, cx: Ctx) -> Result {
///         tracing::info!(order.id = self.order, "mailing order {}", self.order);
///         Ok(())
///     }
/// }
///
/// # fn app() -> throng::App { throng::App::new("shop").task::<MailTicket>() }
/// async fn buy(cx: Ctx) -> Result {
///
///     let tx = cx.db.begin().await?;
///     // … the order is written with `&tx` …
///     cx.queue.push_in(&tx, MailTicket { order: 7 }).await?;
///     tx.commit().await?; // the task exists if, and only if, the order does
///     Ok(())
/// }
/// ```
pub trait Task: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name under which it travels and stands in logs. Never change it while tasks wait.
    const NAME: &'static str;
    /// The queue it waits in.
    const QUEUE: &'static str = throng_queue::DEFAULT_QUEUE;

    /// How often it is tried, with which waits, and how long it may take.
    #[must_use]
    fn policy() -> Policy {
        Policy::default()
    }

    /// Whose turn it takes under [`Policy::key_rate`], such as a customer or a host; none for no
    /// such limit.
    #[must_use]
    fn rate_key(&self) -> Option<String> {
        None
    }

    /// Does the work. Its context knows the task's id and how often it was tried
    /// ([`Ctx::delivery`]), and takes what it returns ([`Ctx::answer`]).
    fn run(self, cx: Ctx) -> impl Future<Output = Result> + Send;
}

/// The queue as a context offers it: takes [`Task`]s. Everything else is the room's own
/// [`throng_queue::Queue`], to which this dereferences.
#[derive(Clone)]
pub struct Queue {
    pub(crate) room: throng_queue::Queue,
    /// What whoever pushes has seen of it travels with a task.
    pub(crate) db: Db,
}

impl Queue {
    /// Has a worker run `task` soon.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn push<T: Task>(&self, task: T) -> Result<TaskId> {
        self.send(message(&task)?).await
    }

    /// Has a worker run `task` if, and only if, `tx` commits.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn push_in<T: Task>(&self, tx: &Tx, task: T) -> Result<TaskId> {
        Ok(self.room.push_in(tx, message(&task)?).await?)
    }

    /// Has a worker run `task` once `delay` has passed.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn push_after<T: Task>(&self, delay: Duration, task: T) -> Result<TaskId> {
        self.send(message(&task)?.delay(delay)).await
    }

    /// Has a worker run `task` once `delay` has passed if, and only if, `tx` commits.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn push_after_in<T: Task>(
        &self,
        tx: &Tx,
        delay: Duration,
        task: T,
    ) -> Result<TaskId> {
        Ok(self.room.push_in(tx, message(&task)?.delay(delay)).await?)
    }

    /// Tells every receiver of the signal's table ([`Receiver`](crate::Receiver)) if, and only if,
    /// `tx` commits.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn signal_in(&self, tx: &Tx, signal: Signal) -> Result<TaskId> {
        self.send_in(tx, signal.message()?).await
    }

    /// Pushes a [`Message`], such as one made by [`message`] or for a worker in another language.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn send(&self, message: Message) -> Result<TaskId> {
        Ok(self.room.push(seen::stamp(&self.db, message).await).await?)
    }

    /// Pushes a [`Message`] if, and only if, `tx` commits.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn send_in(&self, tx: &Tx, message: Message) -> Result<TaskId> {
        Ok(self.room.push_in(tx, message).await?)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.room.fmt(f)
    }
}

impl Deref for Queue {
    type Target = throng_queue::Queue;

    fn deref(&self) -> &Self::Target {
        &self.room
    }
}

/// The message of a task, for what only a [`Message`] can say: a unique key, a priority, an expiry.
/// [`Queue::send`] and [`Queue::send_in`] push it.
///
/// # Errors
/// When the task's fields are not JSON.
pub fn message<T: Task>(task: &T) -> Result<Message> {
    Ok(written(task)?)
}

fn written<T: Task>(task: &T) -> throng_queue::Result<Message> {
    let policy = T::policy();
    let message = Message::new(T::NAME, task)?.queue(T::QUEUE);
    let message = message.time_limits(policy.soft_limit, policy.hard_limit);
    Ok(if policy.is_at_most_once { message.at_most_once() } else { message })
}

/// Pushes what a queue outside the database left in the outbox.
pub(crate) async fn deliver(queue: &throng_queue::Queue, delivery: outbox::Delivery) -> Result {
    match queue.deliver(&delivery.entry.payload).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == throng_queue::Kind::Retry => Err(error.into()),
        Err(error) => {
            tracing::error!(%error, "dropping a task that cannot be pushed: {error}");
            Ok(())
        }
    }
}

/// A registered kind of task, without its type.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) queue: &'static str,
    pub(crate) policy: Policy,
    /// Whose turn a message takes, where there is a limit for each.
    pub(crate) rate_key: fn(&Message) -> Option<String>,
    /// Turns arguments from a command line into the message, if they fit.
    pub(crate) read: fn(Value) -> throng_queue::Result<Message>,
    pub(crate) run: fn(Site, Delivery) -> Running,
}

/// A task under way.
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Kind {
    pub(crate) fn of<T: Task>() -> Self {
        Self {
            name: T::NAME,
            queue: T::QUEUE,
            policy: T::policy(),
            rate_key: |message| message.arguments::<T>().ok()?.rate_key(),
            // As a worker would read them, whoever sent them.
            read: |arguments| written::<T>(&Message::new(T::NAME, arguments)?.arguments()?),
            run: |site, delivery| Box::pin(run::<T>(site, delivery)),
        }
    }
}

async fn run<T: Task>(site: Site, delivery: Delivery) -> Outcome {
    let task: T = match delivery.arguments() {
        Ok(task) => task,
        Err(error) => return Outcome::dead(error),
    };
    let run = Run::of(delivery);
    match task.run(run.ctx(&site)).await {
        Ok(()) => run.done(),
        Err(error) if error.kind() == ErrorKind::Refuse => Outcome::dead(error),
        Err(error) => Outcome::Retry { reason: error.to_string(), after: error.retry_after() },
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Invoice {
        order: i64,
        copy_to: Option<String>,
    }

    impl Task for Invoice {
        const NAME: &'static str = "invoice";

        async fn run(self, _: Ctx) -> Result {
            Ok(())
        }
    }

    #[test]
    fn arguments_of_a_command_line_are_read_as_a_worker_reads_them() {
        let read = |arguments: Value| (Kind::of::<Invoice>().read)(arguments);
        for arguments in [json!([7]), json!(7), json!({ "order": 7 }), json!([7, null])] {
            let invoice = read(arguments).unwrap().arguments::<Invoice>().unwrap();
            assert_eq!((invoice.order, invoice.copy_to), (7, None));
        }
        let wrong = read(json!({ "copy_to": "me" })).unwrap_err();
        assert_eq!(wrong.to_string(), "wrong arguments for task `invoice`: missing field `order`");
    }
}
