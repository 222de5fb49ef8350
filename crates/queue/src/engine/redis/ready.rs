//! Into the lists and out of them: pushing, claiming, and promoting what has become due.

use std::{borrow::Cow, pin::pin, sync::Arc};

use ::redis::{Cmd, RedisError};
use futures_util::FutureExt as _;
use serde_json::Value;

use super::Redis;
use crate::{
    Message, TaskId,
    engine::{Batch, Claim, Claimed, Lease},
};

impl Redis {
    pub(super) async fn push_messages(
        &self,
        messages: &[Message],
    ) -> Result<Vec<TaskId>, RedisError> {
        let now_ms = self.clock.now_ms();
        let parcels = messages.iter().map(|message| Arc::new(Parcel::of(message, now_ms)));
        let commit = |all: Vec<Arc<Parcel>>| async move {
            let mut pushed = pin!(self.push_parcels(&all));
            let begun = pushed.as_mut().now_or_never();
            // The call is on its way. A worker here may claim right behind it, over the same
            // connection, and need not wait for the answer to this.
            self.signals.ready();
            match begun {
                Some(ids) => ids,
                None => pushed.await,
            }
        };
        let ids = self.gather.push(parcels.collect(), commit).await?;
        self.signals.ready();
        Ok(ids)
    }

    async fn push_parcels(&self, parcels: &[Arc<Parcel>]) -> Result<Vec<TaskId>, RedisError> {
        let mut ids: Vec<TaskId> = parcels.iter().map(|parcel| parcel.id.clone()).collect();
        let calls = parcels.chunks(CHUNK).map(|chunk| {
            let bytes = chunk.iter().map(|parcel| parcel.text.len() + 256).sum();
            let mut call = self.call(&self.scripts.push, chunk.len() * 9, bytes);
            chunk.iter().for_each(|parcel| parcel.add_to(&mut call));
            call
        });
        let answers: Vec<Vec<(usize, String)>> = match &*calls.collect::<Vec<_>>() {
            [call] => vec![self.invoke(&self.scripts.push, call).await?],
            calls => self.invoke_all(&self.scripts.push, calls).await?,
        };
        for (nth, others) in answers.into_iter().enumerate() {
            for (at, id) in others {
                ids[nth * CHUNK + at] = id.into();
            }
        }
        Ok(ids)
    }

    pub(super) async fn claim_messages(&self, claim: &Claim<'_>) -> Result<Batch, RedisError> {
        let mut batch = self.claim_once(claim).await?;
        let is_due =
            |batch: &Batch| batch.next_due_ms.is_some_and(|due_ms| due_ms <= self.clock.now_ms());
        if is_due(&batch) {
            self.promote(claim.queues).await?;
            let limit = claim.limit - batch.tasks.len().min(claim.limit);
            let has_suspect = batch.tasks.iter().any(|claimed| claimed.crashes >= 2);
            let takes_suspect = claim.takes_suspect && !has_suspect;
            let more = self.claim_once(&Claim { limit, takes_suspect, ..*claim }).await?;
            batch.tasks.extend(more.tasks);
            batch.next_due_ms = more.next_due_ms;
        }
        Ok(batch)
    }

    async fn claim_once(&self, claim: &Claim<'_>) -> Result<Batch, RedisError> {
        let token: Arc<str> = TaskId::random().as_str().into();
        let flag = |is_so: bool| String::from(if is_so { "1" } else { "0" });
        let mut arguments = vec![
            self.in_ms(claim.lease).to_string(),
            token.to_string(),
            claim.worker.to_owned(),
            claim.limit.to_string(),
            flag(claim.takes_suspect),
            flag(self.is_lowest_first),
            claim.names.map_or("-1".into(), |names| names.len().to_string()),
        ];
        arguments.extend(claim.names.into_iter().flatten().cloned());
        arguments.extend(claim.queues.iter().cloned());
        let answer: Vec<Vec<u8>> = self.run(&self.scripts.claim, &arguments).await?;
        let mut answer = answer.into_iter();
        let next_due_ms = answer.next().and_then(|due| String::from_utf8(due).ok()?.parse().ok());
        let tasks = Vec::with_capacity(answer.len() / 4);
        let mut batch = Batch { tasks, next_due_ms };
        while let (Some(id), Some(message), Some(crashes), Some(retries)) =
            (answer.next(), answer.next(), answer.next(), answer.next())
        {
            let id = TaskId::from(&*String::from_utf8_lossy(&id));
            let lease = Lease { id, row: 0, token: token.clone() };
            let (crashes, retries) = (number(&crashes), number(&retries));
            batch.tasks.extend(self.receive(lease, message, crashes, retries).await?);
        }
        Ok(batch)
    }

    /// Sorts out what came out of a list: what must wait goes to wait, what is in the old protocol
    /// is pushed anew in the new one, what cannot be read is kept as a task that no one knows.
    async fn receive(
        &self,
        mut lease: Lease,
        bytes: Vec<u8>,
        crashes: u32,
        retries: u32,
    ) -> Result<Option<Claimed>, RedisError> {
        let now_ms = self.clock.now_ms();
        let read = Message::from_json(&bytes);
        let mut message = match read {
            Ok(message) if message.id() == lease.id => message,
            Ok(message) => {
                let parcel = Parcel::of(&message, now_ms);
                self.push_parcels(&[Arc::new(parcel)]).await?;
                self.replace(&lease, "").await?;
                return Ok(None);
            }
            Err(error) => {
                let id = &lease.id;
                tracing::warn!(task.id = %id, "put a malformed message aside as task {id}: {error}");
                let quarantined = quarantined(&lease.id, &bytes);
                self.replace(&lease, &quarantined.to_json()).await?;
                quarantined
            }
        };
        if retries > message.retries() {
            message.set_retries(retries);
        }
        if message.ignores_result() {
            lease.row = IGNORES;
        }
        if let Some(due_ms) = message.due_ms(now_ms).filter(|due_ms| *due_ms > now_ms) {
            let due_ms = due_ms.to_string();
            let arguments = [&*lease.token, lease.id.as_str(), &due_ms];
            let () = self.run(&self.scripts.hold_back, &arguments).await?;
            return Ok(None);
        }
        Ok(Some(Claimed { lease, message, crashes }))
    }

    async fn replace(&self, lease: &Lease, message: &str) -> Result<(), RedisError> {
        let arguments = [&*lease.token, lease.id.as_str(), message];
        self.run::<i64>(&self.scripts.replace, &arguments).await.map(drop)
    }

    /// Waiting tasks whose time has come go to their lists, their retries up to date for whichever
    /// worker takes them.
    pub(super) async fn promote(&self, queues: &[String]) -> Result<(), RedisError> {
        let due: Vec<Vec<u8>> = self.run(&self.scripts.due, queues).await?;
        let mut arguments: Vec<Vec<u8>> = Vec::new();
        for task in due.chunks_exact(3) {
            let retries = number(&task[2]);
            let message = match Message::from_json(&task[1]) {
                Ok(mut message) => {
                    message.set_retries(message.retries().max(retries));
                    message.to_json().into_bytes()
                }
                Err(_) => task[1].clone(),
            };
            arguments.extend([task[0].clone(), message]);
        }
        if arguments.is_empty() {
            return Ok(());
        }
        self.run(&self.scripts.promote, &arguments).await
    }
}

/// A message as `push` in the scripts takes it.
#[derive(Debug)]
pub(super) struct Parcel {
    id: TaskId,
    queue: String,
    name: String,
    priority: u8,
    text: String,
    due_ms: Option<i64>,
    expires_ms: Option<i64>,
    unique: String,
    /// Whether it runs at most once, whether it ignores its result, whether it is debounced.
    flags: [bool; 3],
}

impl Parcel {
    pub(super) fn of(message: &Message, now_ms: i64) -> Self {
        let mut fixed = Cow::Borrowed(message);
        if message.is_delayed() {
            fixed.to_mut().fix_delay(now_ms);
        }
        let message = &*fixed;
        Self {
            id: message.id(),
            queue: message.queue_name().to_owned(),
            name: message.name().to_owned(),
            priority: message.priority_level(),
            text: message.to_json(),
            due_ms: message.due_ms(now_ms).filter(|due_ms| *due_ms > now_ms),
            expires_ms: message.expires_ms(),
            unique: message.unique_key().unwrap_or_default().to_owned(),
            flags: [message.is_at_most_once(), message.ignores_result(), message.is_debounced()],
        }
    }

    pub(super) fn add_to(&self, call: &mut Cmd) {
        let number = |call: &mut Cmd, number: Option<i64>| {
            match number {
                Some(number) => call.arg(number),
                None => call.arg(""),
            };
        };
        call.arg(self.id.as_str()).arg(&self.queue).arg(&self.name).arg(self.priority);
        call.arg(&self.text);
        number(call, self.due_ms);
        number(call, self.expires_ms);
        call.arg(&self.unique);
        let flag = |is_so: bool| if is_so { b'1' } else { b'0' };
        call.arg(self.flags.map(flag).as_slice());
    }
}

/// A message that nobody can read, as a task that nobody knows: it is parked, and can be looked at.
fn quarantined(id: &TaskId, bytes: &[u8]) -> Message {
    let raw = Value::String(String::from_utf8_lossy(bytes).into_owned());
    let message = Message::new(crate::MALFORMED, [raw]).expect("text has a JSON form");
    message.with_id(id.clone())
}

fn number(bytes: &[u8]) -> u32 {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The row of a lease on a task whose result nobody wants.
pub(super) const IGNORES: i64 = 1;

/// Messages in one call of the push script.
pub(super) const CHUNK: usize = 500;
