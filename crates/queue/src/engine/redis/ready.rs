//! Into the lists and out of them: pushing, claiming, and promoting what has become due.

use std::sync::Arc;

use ::redis::RedisError;
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
        let commit = |all: Arc<[Message]>| async move { self.push_chunks(&all).await }.boxed();
        let ids = self.gather.push(messages, commit).await?;
        self.signals.ready();
        Ok(ids)
    }

    async fn push_chunks(&self, messages: &[Message]) -> Result<Vec<TaskId>, RedisError> {
        let mut ids = Vec::with_capacity(messages.len());
        for chunk in messages.chunks(CHUNK) {
            let arguments: Vec<String> =
                chunk.iter().flat_map(|message| self.push_arguments(message)).collect();
            let pushed: Vec<String> = self.run(&self.scripts.push, &arguments).await?;
            ids.extend(pushed.into_iter().map(TaskId::from));
        }
        Ok(ids)
    }

    /// What `push` in the scripts takes.
    pub(super) fn push_arguments(&self, message: &Message) -> [String; 9] {
        let now_ms = self.clock.now_ms();
        let mut message = message.clone();
        message.fix_delay(now_ms);
        let text =
            |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
        [
            message.id().to_string(),
            message.queue_name().to_owned(),
            message.name().to_owned(),
            message.priority_level().to_string(),
            message.to_json(),
            text(message.due_ms(now_ms).filter(|due_ms| *due_ms > now_ms)),
            text(message.expires_ms()),
            message.unique_key().unwrap_or_default().to_owned(),
            u8::from(message.is_at_most_once()).to_string(),
        ]
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
        let mut batch = Batch { tasks: Vec::new(), next_due_ms };
        while let (Some(id), Some(message), Some(crashes), Some(retries)) =
            (answer.next(), answer.next(), answer.next(), answer.next())
        {
            let lease = Lease { id: text(id).into(), row: 0, token: token.clone() };
            let number = |bytes| text(bytes).parse().unwrap_or(0);
            let (crashes, retries) = (number(crashes), number(retries));
            batch.tasks.extend(self.receive(lease, message, crashes, retries).await?);
        }
        Ok(batch)
    }

    /// Sorts out what came out of a list: what must wait goes to wait, what is in the old protocol
    /// is pushed anew in the new one, what cannot be read is kept as a task that no one knows.
    async fn receive(
        &self,
        lease: Lease,
        bytes: Vec<u8>,
        crashes: u32,
        retries: u32,
    ) -> Result<Option<Claimed>, RedisError> {
        let now_ms = self.clock.now_ms();
        let read = Message::from_json(&bytes);
        let mut message = match read {
            Ok(message) if message.id() == lease.id => message,
            Ok(message) => {
                self.push_chunks(&[message]).await?;
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
        message.set_retries(message.retries().max(retries));
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
            let retries = text(task[2].clone()).parse().unwrap_or(0);
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

/// A message that nobody can read, as a task that nobody knows: it is parked, and can be looked at.
fn quarantined(id: &TaskId, bytes: &[u8]) -> Message {
    let raw = Value::String(String::from_utf8_lossy(bytes).into_owned());
    let message = Message::new(crate::MALFORMED, [raw]).expect("text has a JSON form");
    message.with_id(id.clone())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Messages in one call of the push script.
const CHUNK: usize = 500;
