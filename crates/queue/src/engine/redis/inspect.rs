//! Looking at tasks, and setting them right by hand.

use std::collections::{BTreeSet, HashMap};

use ::redis::RedisError;
use serde_json::Value;

use super::{Redis, STEPS};
use crate::{Count, Filter, Message, Record, State, TaskId, engine::celery};

impl Redis {
    pub(super) async fn find_record(&self, id: &TaskId) -> Result<Option<Record>, RedisError> {
        let mut command = ::redis::cmd("HGETALL");
        command.arg(self.task_key(id.as_str()));
        let fields: HashMap<String, Vec<u8>> =
            command.query_async(&mut self.connection.clone()).await?;
        let Some(mut record) = read(&fields) else { return Ok(None) };
        if record.state == State::Queued {
            self.read_celery_result(id, &mut record).await?;
        }
        Ok(Some(record))
    }

    /// A task that a Celery worker took out of its list looks queued to us until its result comes.
    async fn read_celery_result(&self, id: &TaskId, record: &mut Record) -> Result<(), RedisError> {
        let mut command = ::redis::cmd("GET");
        command.arg(self.key(format_args!("celery-task-meta-{id}")));
        let found: Option<Vec<u8>> = command.query_async(&mut self.connection.clone()).await?;
        let Some(meta) = found.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        else {
            return Ok(());
        };
        let finished = meta["date_done"].as_str().and_then(crate::time::from_iso);
        match meta["status"].as_str() {
            Some("SUCCESS") => {
                record.state = State::Done;
                record.result = Some(meta["result"].clone()).filter(|result| !result.is_null());
            }
            Some("FAILURE") => {
                record.state = State::Dead;
                record.reason = Some(celery::reason(&meta["result"]));
            }
            Some("REVOKED") => record.state = State::Cancelled,
            Some("STARTED") => record.state = State::Running,
            // Of a retry of ours it is back already; Celery's workers hold what they try again.
            Some("RETRY") if record.retries == 0 => record.state = State::Running,
            _ => return Ok(()),
        }
        record.finished_ms = finished.filter(|_| record.state.is_final());
        Ok(())
    }

    pub(super) async fn list_records(&self, filter: &Filter) -> Result<Vec<Record>, RedisError> {
        let queues = match &filter.queue {
            Some(queue) => vec![queue.clone()],
            None => self.all_queues().await?,
        };
        let most = isize::try_from(filter.limit).unwrap_or(isize::MAX);
        let mut records = Vec::new();
        for queue in queues {
            for state in State::ALL {
                if filter.state.is_none_or(|wanted| wanted == state) {
                    records.extend(self.list_state(&queue, state, most).await?);
                }
            }
        }
        records.retain(|record| {
            filter.name.as_deref().is_none_or(|name| record.message.name() == name)
        });
        records.sort_by_key(|record| std::cmp::Reverse(record.pushed_ms));
        records.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
        Ok(records)
    }

    async fn list_state(
        &self,
        queue: &str,
        state: State,
        most: isize,
    ) -> Result<Vec<Record>, RedisError> {
        let mut connection = self.connection.clone();
        let mut ids: Vec<String> = Vec::new();
        let mut unknown = HashMap::new();
        if state == State::Queued {
            for step in STEPS {
                let mut command = ::redis::cmd("LRANGE");
                command.arg(self.list_key(queue, step)).arg(0).arg(most - 1);
                let messages: Vec<Vec<u8>> = command.query_async(&mut connection).await?;
                for message in messages.iter().filter_map(|bytes| Message::from_json(bytes).ok()) {
                    ids.push(message.id().to_string());
                    unknown.insert(message.id().to_string(), message);
                }
            }
        }
        let index = match state {
            State::Queued => self.key(format_args!("throng:suspect:{queue}")),
            _ => self.state_key(state, queue),
        };
        let mut command = ::redis::cmd("ZREVRANGE");
        command.arg(index).arg(0).arg(most - 1);
        ids.extend(command.query_async::<Vec<String>>(&mut connection).await?);
        let mut records = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            let mut pipe = ::redis::pipe();
            for id in chunk {
                pipe.cmd("HGETALL").arg(self.task_key(id));
            }
            let all: Vec<HashMap<String, Vec<u8>>> = pipe.query_async(&mut connection).await?;
            for (id, fields) in chunk.iter().zip(all) {
                // What a Celery producer pushed has no record of ours until a worker claims it.
                let from_list = || unknown.remove(id).map(bare);
                records.extend(read(&fields).or_else(from_list));
            }
        }
        Ok(records)
    }

    pub(super) async fn count_tasks(&self) -> Result<Vec<Count>, RedisError> {
        let mut counts = Vec::new();
        for queue in self.all_queues().await? {
            let mut pipe = ::redis::pipe();
            for step in STEPS {
                pipe.cmd("LLEN").arg(self.list_key(&queue, step));
            }
            pipe.cmd("ZCARD").arg(self.key(format_args!("throng:suspect:{queue}")));
            let indexed = State::ALL.into_iter().filter(|state| *state != State::Queued);
            for state in indexed.clone() {
                pipe.cmd("ZCARD").arg(self.state_key(state, &queue));
            }
            let sizes: Vec<u64> = pipe.query_async(&mut self.connection.clone()).await?;
            let (queued, rest) = sizes.split_at(STEPS.len() + 1);
            let rest = indexed.zip(rest.iter().copied());
            let all = std::iter::once((State::Queued, queued.iter().sum())).chain(rest);
            let some = all.filter(|(_, tasks)| *tasks > 0);
            counts.extend(some.map(|(state, tasks)| Count { queue: queue.clone(), state, tasks }));
        }
        counts.sort_by(|a, b| (&a.queue, a.state).cmp(&(&b.queue, b.state)));
        Ok(counts)
    }

    pub(super) async fn retry_task(
        &self,
        id: &TaskId,
        edited: Option<&Message>,
    ) -> Result<bool, RedisError> {
        let known = self.find_record(id).await?;
        let Some(mut message) = edited.cloned().or(known.map(|record| record.message)) else {
            return Ok(false);
        };
        message.set_retries(0);
        message.clear_expiry();
        message.clear_eta();
        let text = message.to_json();
        let is_retried = self.run(&self.scripts.retry, &[id.as_str(), &text]).await?;
        self.signals.ready();
        Ok(is_retried)
    }

    pub(super) async fn keep_dead_record(&self, letter: &Record) -> Result<(), RedisError> {
        let message = &letter.message;
        let flag = |is_so: bool| if is_so { "1" } else { "0" };
        let mut call = self.call(&self.scripts.bury, 11, 1024);
        call.arg(message.id().as_str()).arg(message.queue_name()).arg(message.name());
        call.arg(message.priority_level()).arg(message.to_json());
        call.arg(flag(message.is_at_most_once())).arg(flag(message.ignores_result()));
        call.arg(letter.pushed_ms).arg(letter.finished_ms.unwrap_or(letter.pushed_ms));
        call.arg(letter.reason.as_deref().unwrap_or_default());
        call.arg(letter.retries).arg(letter.crashes);
        self.invoke::<i64>(&self.scripts.bury, &call).await.map(drop)
    }

    pub(super) async fn purge_tasks(&self, queue: &str, state: State) -> Result<u64, RedisError> {
        if state == State::Running {
            return Ok(0);
        }
        let mut purged = 0;
        loop {
            let some: u64 = self.run(&self.scripts.purge, &[queue, state.as_str()]).await?;
            if some == 0 {
                return Ok(purged);
            }
            purged += some;
        }
    }

    pub(super) async fn queues(&self) -> Result<Vec<String>, RedisError> {
        let mut command = ::redis::cmd("SMEMBERS");
        command.arg(self.key("throng:queues"));
        let mut queues: Vec<String> = command.query_async(&mut self.connection.clone()).await?;
        queues.sort();
        Ok(queues)
    }

    /// Our queues, and those that kombu has bound, which nobody here may have served yet. For who
    /// looks: every key of the database is passed over.
    async fn all_queues(&self) -> Result<Vec<String>, RedisError> {
        let mut queues = BTreeSet::from_iter(self.queues().await?);
        let mut connection = self.connection.clone();
        let mut cursor = 0_u64;
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(self.key("_kombu.binding.*"));
            scan.arg("COUNT").arg(SCANNED);
            let (next, bindings): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
            for binding in bindings {
                let mut command = ::redis::cmd("SMEMBERS");
                let bound: Vec<String> = command.arg(binding).query_async(&mut connection).await?;
                let bound = bound.iter().filter_map(|bound| bound.rsplit(SEPARATOR).next());
                queues.extend(bound.filter(|queue| is_of_tasks(queue)).map(str::to_owned));
            }
            cursor = next;
            if cursor == 0 {
                return Ok(queues.into_iter().collect());
            }
        }
    }
}

fn read(fields: &HashMap<String, Vec<u8>>) -> Option<Record> {
    let text =
        |name: &str| fields.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let number = |name: &str| text(name)?.parse::<i64>().ok();
    let count = |name: &str| u32::try_from(number(name).unwrap_or(0)).unwrap_or(0);
    let value = |name: &str| serde_json::from_str(&text(name)?).ok();
    let mut message = Message::from_json(fields.get("m")?).ok()?;
    let state = match text("s")?.as_str() {
        "suspect" => State::Queued,
        state => state.parse().ok()?,
    };
    let retries = message.retries().max(count("r"));
    message.set_retries(retries);
    // After a failure it waits for a time of its own, whatever it was pushed with.
    let due_ms = number("d").or_else(|| message.due_ms(0)).filter(|_| state == State::Waiting);
    Some(Record {
        message,
        state,
        retries,
        crashes: count("c"),
        pushed_ms: number("p").unwrap_or(0),
        due_ms,
        started_ms: number("st"),
        finished_ms: number("f"),
        worker: text("w"),
        reason: text("x"),
        progress: value("pg").filter(|_| state == State::Running),
        result: value("res"),
    })
}

/// The record of a task of which only the message is known.
fn bare(message: Message) -> Record {
    Record {
        retries: message.retries(),
        message,
        state: State::Queued,
        crashes: 0,
        pushed_ms: 0,
        due_ms: None,
        started_ms: None,
        finished_ms: None,
        worker: None,
        reason: None,
        progress: None,
        result: None,
    }
}

/// Whether a queue is for tasks, rather than for Celery's events or its remote control.
fn is_of_tasks(queue: &str) -> bool {
    !queue.is_empty() && !queue.ends_with(".pidbox") && !queue.starts_with("celeryev")
}

const CHUNK: usize = 500;
/// Keys that one request passes over.
const SCANNED: usize = 5_000;
/// Between routing key, pattern and queue of a binding of kombu's.
const SEPARATOR: &str = "\u{6}\u{16}";
