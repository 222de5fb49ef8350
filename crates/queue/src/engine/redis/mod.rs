//! Celery's layout on a Redis server: its workers take our tasks, and ours take theirs.
//!
//! What is ready stands in kombu's lists, one for each queue and priority step, in kombu's
//! envelope. Everything else is ours, under `throng:`: what waits for its time, what a worker holds
//! with a lease, dead letters, records. A claim is one script that takes many tasks out of their
//! lists and notes who holds them in the same step, so that none is ever between. kombu's own
//! `unacked` is never touched, and its sweeper never sees what we hold.
//!
//! Times are the clock's, as in the database engine. All scripts use one server; Redis Cluster is
//! not served.

use std::{fmt, sync::Arc, time::Duration};

use ::redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError,
    ServerErrorKind, ToRedisArgs,
};
use async_trait::async_trait;
use serde_json::Value;
use throng_core::{Clock, EngineUrl};
use throng_db::{Db, Tx, outbox};
use tokio::sync::watch;

use self::{line::Line, ready::Parcel, scripts::Scripts, spool::Spool};
use super::{
    Batch, Claim, Ended, Engine, Fire, Lease, Limit, Part, Signals, Tended, Turn, gather::Gather,
};
use crate::celery::redis::Channels;
use crate::{Count, Error, Filter, Message, Record, Result, State, TaskId};

mod arrival;
mod chord;
mod followed;
mod inspect;
pub(crate) mod line;
mod rate;
mod ready;
mod scripts;
mod settle;
mod spool;

/// Tasks on a Redis server, in Celery's layout.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    connection: Line,
    spool: Option<Arc<Spool>>,
    clock: Clock,
    signals: Arc<Signals>,
    gather: Arc<Gather<Arc<Parcel>, TaskId>>,
    scripts: Arc<Scripts>,
    /// kombu's `global_keyprefix`: before every key.
    prefix: Arc<str>,
    most_spooled: u64,
    keep: Duration,
    is_lowest_first: bool,
}

impl Redis {
    /// Connects to the server that `url` names.
    ///
    /// Options: `prefix` (kombu's `global_keyprefix`), `keep_s` (how long records of finished tasks
    /// stay, an hour unless set), `lowest_first=true`, which serves priority 0 before 9 as Celery
    /// does on Redis, and `spool` (how many tasks are kept in the site's database while the server
    /// does not answer, 100,000 unless set).
    ///
    /// # Errors
    /// [`Error::Url`] for a URL that is wrong, [`Error::Engine`] when the server does not answer.
    pub async fn open(url: &EngineUrl, clock: Clock) -> Result<Self> {
        let mut options = url.options();
        let prefix: String = options.take("prefix")?.unwrap_or_default();
        let keep_s: u64 = options.take("keep_s")?.unwrap_or(3600);
        let is_lowest_first: bool = options.take("lowest_first")?.unwrap_or(false);
        let most_spooled: u64 = options.take("spool")?.unwrap_or(100_000);
        options.finish()?;
        let client = Client::open(address(url)?).map_err(failed("open the server"))?;
        let connection =
            Line::open(client.clone(), TIMEOUT).await.map_err(failed("reach the server"))?;
        Ok(Self {
            client,
            connection,
            spool: None,
            most_spooled,
            clock,
            signals: Arc::default(),
            gather: Gather::new(FLIGHTS, ready::CHUNK),
            scripts: Arc::default(),
            prefix: prefix.into(),
            keep: Duration::from_secs(keep_s),
            is_lowest_first,
        })
    }

    /// Keeps what is pushed while the server does not answer in the outbox of `db`, for whoever
    /// relays it.
    #[must_use]
    pub fn spool(self, db: Db) -> Self {
        Self { spool: Some(Arc::new(Spool::new(db, self.most_spooled))), ..self }
    }

    fn key(&self, rest: impl fmt::Display) -> String {
        format!("{}{rest}", self.prefix)
    }

    fn state_key(&self, state: State, queue: &str) -> String {
        self.key(format_args!("throng:{state}:{queue}"))
    }

    fn task_key(&self, id: &str) -> String {
        self.key(format_args!("throng:task:{id}"))
    }

    /// kombu's list of a queue for one of its priority steps.
    fn list_key(&self, queue: &str, step: u8) -> String {
        match step {
            0 => self.key(queue),
            _ => self.key(format_args!("{queue}\u{6}\u{16}{step}")),
        }
    }

    fn in_ms(&self, wait: Duration) -> i64 {
        self.clock.now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

#[async_trait]
impl Engine for Redis {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wakes(&self) -> watch::Receiver<u64> {
        self.signals.wakes()
    }

    fn finishes(&self) -> watch::Receiver<u64> {
        self.signals.finishes()
    }

    async fn push(&self, messages: &[Message]) -> Result<Vec<TaskId>> {
        self.push_or_keep(messages).await
    }

    async fn push_in(&self, tx: &Tx, message: &Message) -> Result<TaskId> {
        outbox::push_in(tx, spool::entry(message)).await.map_err(failed("push a task"))?;
        Ok(message.id())
    }

    async fn arrival(&self, queues: &[String]) {
        self.await_arrival(queues).await;
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<Batch> {
        self.claim_messages(claim).await.map_err(failed("claim tasks"))
    }

    async fn extend(&self, leases: &[Lease], by: Duration) -> Result<Vec<Lease>> {
        self.extend_leases(leases, by).await.map_err(failed("prolong leases"))
    }

    async fn settle(&self, ended: &[Ended]) -> Result<Vec<bool>> {
        self.settle_ended(ended).await.map_err(failed("record how tasks ended"))
    }

    async fn note_progress(&self, lease: &Lease, progress: &Value) -> Result<()> {
        let arguments = [lease.id.as_str(), &lease.token, &progress.to_string()];
        let noted = self.run::<i64>(&self.scripts.progress, &arguments).await;
        noted.map(drop).map_err(failed("note the progress of a task"))
    }

    async fn turns(&self, wanted: &[Vec<Limit>]) -> Result<Vec<Turn>> {
        self.take_turns(wanted).await.map_err(failed("limit the rate of tasks"))
    }

    async fn tend(&self, max_crashes: u32) -> Result<Tended> {
        self.tend_tasks(max_crashes).await.map_err(failed("tend tasks"))
    }

    async fn unfollowed(&self) -> Result<Vec<Record>> {
        self.unfollowed_tasks().await.map_err(failed("look after dead tasks"))
    }

    async fn followed(&self, tasks: &[Record]) -> Result<()> {
        self.note_followed(tasks).await.map_err(failed("look after dead tasks"))
    }

    async fn unpark(&self, names: &[String]) -> Result<u64> {
        let unparked: u64 =
            self.run(&self.scripts.unpark, &[names]).await.map_err(failed("unpark tasks"))?;
        if unparked > 0 {
            self.signals.ready();
        }
        Ok(unparked)
    }

    async fn find(&self, id: &TaskId) -> Result<Option<Record>> {
        self.find_record(id).await.map_err(failed("find a task"))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>> {
        self.list_records(filter).await.map_err(failed("list tasks"))
    }

    async fn counts(&self) -> Result<Vec<Count>> {
        self.count_tasks().await.map_err(failed("count tasks"))
    }

    async fn retry(&self, id: &TaskId, edited: Option<&Message>) -> Result<bool> {
        self.retry_task(id, edited).await.map_err(failed("try a task again"))
    }

    async fn cancel(&self, id: &TaskId) -> Result<bool> {
        let cancelled: bool = self
            .run(&self.scripts.cancel, &[id.as_str()])
            .await
            .map_err(failed("cancel a task"))?;
        self.signals.finished();
        Ok(cancelled)
    }

    async fn keep_dead(&self, letter: &Record) -> Result<()> {
        self.keep_dead_record(letter).await.map_err(failed("keep a dead letter"))
    }

    async fn forget(&self, id: &TaskId) -> Result<bool> {
        let forgotten: Result<bool, RedisError> =
            self.run(&self.scripts.forget, &[id.as_str()]).await;
        forgotten.map_err(failed("forget a task"))
    }

    async fn purge(&self, queue: &str, state: State) -> Result<u64> {
        self.purge_tasks(queue, state).await.map_err(failed("purge tasks"))
    }

    async fn pause(&self, queue: &str, is_paused: bool) -> Result<()> {
        let command = if is_paused { "SADD" } else { "SREM" };
        let mut command = ::redis::cmd(command);
        command.arg(self.key("throng:paused")).arg(queue);
        let done: Result<(), RedisError> = command.query_async(&mut self.connection.clone()).await;
        done.map_err(failed("pause or resume a queue"))?;
        self.signals.ready();
        Ok(())
    }

    async fn paused(&self) -> Result<Vec<String>> {
        let mut command = ::redis::cmd("SMEMBERS");
        command.arg(self.key("throng:paused"));
        let paused: Result<Vec<String>, RedisError> =
            command.query_async(&mut self.connection.clone()).await;
        let mut paused = paused.map_err(failed("list paused queues"))?;
        paused.sort();
        Ok(paused)
    }

    async fn lead(&self, role: &str, holder: &str, lease: Duration) -> Result<bool> {
        let until = self.in_ms(lease).to_string();
        let arguments = [role, holder, &until];
        self.run(&self.scripts.lead, &arguments).await.map_err(failed("lead the schedules"))
    }

    fn celery(&self) -> Option<Arc<dyn super::Wire>> {
        Some(Arc::new(Channels {
            client: self.client.clone(),
            connection: self.connection.clone(),
            prefix: self.prefix.to_string(),
            database: self.client.get_connection_info().redis_settings().db(),
            clock: self.clock.clone(),
        }))
    }

    async fn last_fire(&self, schedule: &str, now_ms: i64) -> Result<i64> {
        let key = self.key(format_args!("throng:schedule:{schedule}"));
        let mut pipe = ::redis::pipe();
        pipe.cmd("SET").arg(&key).arg(now_ms).arg("NX").ignore().cmd("GET").arg(&key);
        let last: Result<(i64,), RedisError> = pipe.query_async(&mut self.connection.clone()).await;
        last.map(|(last_ms,)| last_ms).map_err(failed("read a schedule"))
    }

    async fn open_chord(&self, group: &str, parts: usize) -> Result<()> {
        self.open_group(group, parts).await.map_err(failed("open a chord"))
    }

    async fn join(&self, part: &Part<'_>) -> Result<Option<Vec<Value>>> {
        self.join_part(part).await.map_err(failed("join a chord"))
    }

    async fn close_chord(
        &self,
        part: &Part<'_>,
        failed_body: Option<(&TaskId, &str)>,
    ) -> Result<()> {
        self.close_group(part, failed_body).await.map_err(failed("close a chord"))
    }

    async fn fire(&self, fire: &Fire<'_>) -> Result<bool> {
        let mut call = self.call(&self.scripts.fire, 12, 1024);
        call.arg(fire.schedule).arg(fire.last_ms).arg(fire.at_ms);
        if let Some(message) = fire.message {
            Parcel::of(message, self.clock.now_ms()).add_to(&mut call);
        }
        let fired = self.invoke(&self.scripts.fire, &call).await;
        self.signals.ready();
        fired.map_err(failed("fire a schedule"))
    }
}

const NAME: &str = "redis";
/// What a request to the server waits at most.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Calls that push and are under way at once: while the server does one, the next is made.
const FLIGHTS: usize = 2;
/// kombu's priority steps.
const STEPS: [u8; 4] = [0, 3, 6, 9];

fn failed<E: std::error::Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Engine { engine: NAME, doing, source: Box::new(source) }
}

fn address(url: &EngineUrl) -> Result<ConnectionInfo> {
    let [host] = url.hosts() else {
        return Err(url
            .fault("host", "one Redis server is named, like redis://127.0.0.1:6379/0")
            .into());
    };
    let path = url.path().trim_matches('/');
    let database: i64 = match path {
        "" => 0,
        number => number
            .parse()
            .map_err(|_| url.fault("path", "it is the number of a database, like /0"))?,
    };
    let mut info = RedisConnectionInfo::default().set_db(database);
    if let Some(user) = url.user().filter(|user| !user.is_empty()) {
        info = info.set_username(user);
    }
    if let Some(password) = url.password() {
        info = info.set_password(password.reveal());
    }
    let address = ConnectionAddr::Tcp(host.name.clone(), host.port.unwrap_or(6379));
    let wrong = |error: RedisError| url.fault("address", error.to_string());
    Ok(::redis::IntoConnectionInfo::into_connection_info(address)
        .map_err(wrong)?
        .set_redis_settings(info))
}

impl Redis {
    /// Runs a script with what every script begins with.
    async fn run<T: ::redis::FromRedisValue>(
        &self,
        script: &::redis::Script,
        arguments: &[impl ToRedisArgs],
    ) -> Result<T, RedisError> {
        let mut call = self.call(script, arguments.len(), 0);
        for argument in arguments {
            call.arg(argument);
        }
        self.invoke(script, &call).await
    }

    /// A call of a script, with room for as many arguments of so many bytes.
    fn call(&self, script: &::redis::Script, count: usize, bytes: usize) -> Cmd {
        let keep_ms = u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX);
        let mut call = Cmd::with_capacity(count + 6, bytes + 128);
        call.arg("EVALSHA").arg(script.get_hash()).arg(0);
        call.arg(&*self.prefix).arg(self.clock.now_ms()).arg(keep_ms);
        call
    }

    async fn invoke<T: ::redis::FromRedisValue>(
        &self,
        script: &::redis::Script,
        call: &Cmd,
    ) -> Result<T, RedisError> {
        let mut connection = self.connection.clone();
        let is_unknown =
            |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
        match call.query_async(&mut connection).await {
            Err(error) if is_unknown(&error) => {
                script.load_async(&mut connection).await?;
                call.query_async(&mut connection).await
            }
            done => done,
        }
    }

    /// Calls of one script, all or none of which are done.
    async fn invoke_all<T: ::redis::FromRedisValue>(
        &self,
        script: &::redis::Script,
        calls: &[Cmd],
    ) -> Result<Vec<T>, RedisError> {
        let mut connection = self.connection.clone();
        let mut pipe = ::redis::pipe();
        pipe.atomic();
        for call in calls {
            pipe.add_command(call.clone());
        }
        // In a transaction a script that is not there would be found missing too late.
        script.load_async(&mut connection).await?;
        pipe.query_async(&mut connection).await
    }
}
