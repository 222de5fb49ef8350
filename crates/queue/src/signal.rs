//! Delayed signals: "this row was saved", told through the queue to whoever wants to know.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{Delivery, Message, Outcome, Policy, Queue, Result, Worker};

/// That a row was saved or deleted: which, and which of its columns changed. The row itself does
/// not travel: whoever hears of it reads it as it is by then.
///
/// Push its [`message`](Self::message) in the transaction that writes the row
/// ([`Queue::push_in`]), so that there is a signal if, and only if, there was a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The table.
    pub table: String,
    /// The row's key, as text.
    pub id: String,
    /// What happened to it.
    pub change: Change,
    /// The columns that changed, if the producer says; none for a row that is new or gone.
    #[serde(default)]
    pub columns: Vec<String>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was inserted or updated.
    Saved,
    /// It is gone.
    Deleted,
}

impl Signal {
    /// The task that tells a signal to all of its receivers.
    pub const TASK: &str = "throng.signal";

    /// The task by which one receiver hears of a signal.
    #[must_use]
    pub fn task_of(receiver: &str) -> String {
        format!("signal.{receiver}")
    }

    /// The row `id` of `table` was saved.
    #[must_use]
    pub fn saved(table: impl Into<String>, id: impl ToString) -> Self {
        let (table, id) = (table.into(), id.to_string());
        Self { table, id, change: Change::Saved, columns: Vec::new() }
    }

    /// The row `id` of `table` was deleted.
    #[must_use]
    pub fn deleted(table: impl Into<String>, id: impl ToString) -> Self {
        Self { change: Change::Deleted, ..Self::saved(table, id) }
    }

    /// Says which columns changed.
    #[must_use]
    pub fn columns<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), ..self }
    }

    /// Whether this column may have changed.
    #[must_use]
    pub fn touches(&self, column: &str) -> bool {
        self.columns.is_empty() || self.columns.iter().any(|name| name == column)
    }

    /// The task that tells it.
    ///
    /// # Errors
    /// None today: a signal has a JSON form.
    pub fn message(&self) -> Result<Message> {
        Message::new(Self::TASK, self)
    }
}

/// Receivers by the table that they want to hear of.
pub(crate) type Receivers = BTreeMap<String, Vec<String>>;

impl Worker {
    /// Runs `handler` for each signal about `table`. Every receiver gets a task of its own, called
    /// `signal.` and the receiver's name, which is tried again by `policy` for itself alone: one
    /// that fails holds up no other. As with schedules, every worker that serves the queue of
    /// signals carries all receivers.
    #[must_use]
    pub fn on_signal<F, O>(
        mut self,
        receiver: &str,
        table: &str,
        policy: Policy,
        handler: impl Fn(Signal, Delivery) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome> + Send + 'static,
    {
        self.receivers.entry(table.to_owned()).or_default().push(receiver.to_owned());
        let handler = std::sync::Arc::new(handler);
        self.on(Signal::task_of(receiver), policy, move |delivery| {
            let handler = handler.clone();
            async move {
                match delivery.arguments::<Signal>() {
                    Ok(signal) => handler(signal, delivery).await.into(),
                    Err(error) => error.into(),
                }
            }
        })
    }

    /// Gives each receiver its task.
    pub(crate) fn fan_out(mut self) -> Self {
        if self.receivers.is_empty() {
            return self;
        }
        let (queue, receivers) = (self.queue.clone(), std::mem::take(&mut self.receivers));
        let receivers = std::sync::Arc::new(receivers);
        self.on(Signal::TASK, Policy::default(), move |delivery| -> BoxFuture<'static, Outcome> {
            let (queue, receivers) = (queue.clone(), receivers.clone());
            Box::pin(async move {
                match tell(&queue, &receivers, &delivery).await {
                    Ok(()) => Outcome::done(),
                    Err(error) => error.into(),
                }
            })
        })
    }
}

/// Doing it again pushes the same ids again, which does nothing.
async fn tell(queue: &Queue, receivers: &Receivers, delivery: &Delivery) -> Result<()> {
    let signal: Signal = delivery.arguments()?;
    let names = receivers.get(&signal.table).into_iter().flatten();
    let mut messages = Vec::new();
    for name in names {
        let id = format!("{}.{name}", delivery.id());
        let message = Message::new(Signal::task_of(name), &signal)?.with_id(id.as_str().into());
        let message = message.queue(delivery.message().queue_name());
        messages.push(message.inherit(delivery.message()));
    }
    if messages.is_empty() {
        tracing::debug!(table = %signal.table, "nobody here wants to hear of table {}", signal.table);
        return Ok(());
    }
    queue.push_all(messages).await.map(drop)
}
