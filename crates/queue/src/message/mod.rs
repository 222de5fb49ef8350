//! The message: Celery's protocol 2, so that a task moves between engines and languages untouched.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{Error, Result, Task, TaskId, time};

mod arguments;
mod body;
mod canvas;
mod chord;
mod fields;
mod wire;

pub use body::Body;
pub(crate) use chord::Awaited;
pub(crate) use fields::Fields;

/// One task as it travels: headers, a body and properties, as Celery's protocol 2 lays them out.
///
/// Built by [`Message::new`] or [`Message::of`] and the methods that follow; what a stranger's
/// producer sent is kept as it came, unknown headers included. A clone shares all of it until it is
/// changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Without those of [`EMPTY`] that say nothing, which are written all the same.
    pub(crate) headers: Fields,
    /// All but kombu's usual `delivery_info`, which says nothing but the queue.
    pub(crate) properties: Fields,
    queue: Option<Arc<str>>,
    pub(crate) body: Arc<[u8]>,
    pub(crate) content_type: Cow<'static, str>,
    pub(crate) content_encoding: Cow<'static, str>,
}

impl Message {
    /// A message for the task `name`. An object (or struct) becomes Celery's keyword arguments, an
    /// array or tuple its positional ones, null or `()` none, anything else the only argument.
    ///
    /// # Errors
    /// [`Error::Arguments`] when `args` has no JSON form.
    pub fn new(name: impl Into<String>, args: impl Serialize) -> Result<Self> {
        let name = name.into();
        let value = serde_json::to_value(args)
            .map_err(|error| Error::Arguments { name: name.clone(), reason: error.to_string() })?;
        let (args, kwargs) = match value {
            Value::Object(kwargs) => (Vec::new(), kwargs),
            Value::Array(args) => (args, Map::new()),
            Value::Null => (Vec::new(), Map::new()),
            only => (vec![only], Map::new()),
        };
        Ok(Self::from_body(name, &Body { args, kwargs, embed: body::no_embed() }))
    }

    /// The message of a typed task, with its queue and limits.
    ///
    /// # Errors
    /// [`Error::Arguments`] when the task has no JSON form.
    pub fn of<T: Task>(task: &T) -> Result<Self> {
        let policy = T::policy();
        let message = Self::new(T::NAME, task)?.queue(T::QUEUE);
        let message = message.time_limits(policy.soft_limit, policy.hard_limit);
        Ok(if policy.is_at_most_once { message.at_most_once() } else { message })
    }

    pub(crate) fn from_body(name: String, body: &Body) -> Self {
        let id = TaskId::random();
        let id_text = || Value::String(id.to_string());
        let headers = [
            ("id", id_text()),
            ("ignore_result", json!(false)),
            ("lang", json!("py")),
            ("retries", json!(0)),
            ("root_id", id_text()),
            ("task", Value::String(name)),
        ];
        let properties = [
            ("body_encoding", json!("base64")),
            ("correlation_id", id_text()),
            ("delivery_mode", json!(2)),
            ("delivery_tag", json!(TaskId::random())),
            ("priority", json!(0)),
        ];
        Self {
            headers: headers.into_iter().collect(),
            properties: properties.into_iter().collect(),
            queue: Some(crate::DEFAULT_QUEUE.into()),
            body: body.to_json().into(),
            content_type: Cow::Borrowed(body::JSON),
            content_encoding: Cow::Borrowed(body::UTF_8),
        }
    }

    /// Sends the task to this queue rather than `default`.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into().into());
        self.properties.remove(DELIVERY_INFO);
        self
    }

    /// Uses this id rather than a random one: pushing it again while it is known does nothing.
    #[must_use]
    pub fn with_id(mut self, id: TaskId) -> Self {
        self.headers.insert("id", json!(id));
        self.headers.insert("root_id", json!(id));
        self.properties.insert("correlation_id", json!(id));
        self
    }

    /// Holds the task back until `unix_ms`.
    #[must_use]
    pub fn at(mut self, unix_ms: i64) -> Self {
        self.headers.insert("eta", json!(time::to_iso(unix_ms)));
        self
    }

    /// Holds the task back for `delay` from when it is pushed.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.header(DELAY, delay_ms)
    }

    /// Drops the task when it has not started by `unix_ms`.
    #[must_use]
    pub fn expires_at(mut self, unix_ms: i64) -> Self {
        self.headers.insert("expires", json!(time::to_iso(unix_ms)));
        self
    }

    /// From 0 to 9, higher first; 0 unless set. Tasks of one priority run in the order pushed.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.properties.insert("priority", json!(priority.min(9)));
        self
    }

    /// Retries at most this often, whatever the worker's policy for the task says.
    #[must_use]
    pub fn max_retries(self, retries: u32) -> Self {
        self.header(MAX_RETRIES, retries)
    }

    /// While a task with the same key waits or runs, a push returns that task instead of a new one.
    #[must_use]
    pub fn unique(self, key: impl Into<String>) -> Self {
        self.header(UNIQUE, key.into())
    }

    /// Runs `delay` after the last push with this key: while such a task waits, another push takes
    /// its place, and it is cancelled.
    #[must_use]
    pub fn debounce(self, key: impl Into<String>, delay: Duration) -> Self {
        self.unique(key).delay(delay).header(DEBOUNCED, true)
    }

    /// Runs at most once: a task whose worker dies goes to the dead letters instead of again.
    #[must_use]
    pub fn at_most_once(self) -> Self {
        self.header(AT_MOST_ONCE, true)
    }

    /// Asks the task to stop after `soft`, and stops it after `hard`; none is no limit.
    #[must_use]
    pub fn time_limits(mut self, soft: Option<Duration>, hard: Option<Duration>) -> Self {
        let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64());
        let limits = (soft.or(hard)).map(|_| json!([seconds(hard), seconds(soft)]));
        self.headers.insert(LIMITS, limits);
        self
    }

    /// Keeps no result for Celery's `AsyncResult`, on engines that have it.
    #[must_use]
    pub fn ignore_result(self) -> Self {
        self.header("ignore_result", true)
    }

    /// Adds a header of your own, such as the causal token of the write that this task follows.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.text_header("id").unwrap_or_default().into()
    }

    /// The task's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text_header("task").unwrap_or_default()
    }

    /// The queue it goes to.
    #[must_use]
    pub fn queue_name(&self) -> &str {
        let queue = self.queue.as_deref();
        queue.filter(|queue| !queue.is_empty()).unwrap_or(crate::DEFAULT_QUEUE)
    }

    /// Its priority, 0 to 9.
    #[must_use]
    pub fn priority_level(&self) -> u8 {
        let priority = self.properties.get("priority").and_then(Value::as_u64).unwrap_or(0);
        u8::try_from(priority.min(9)).unwrap_or(9)
    }

    /// When it may start, if it was held back; `now_ms` is the time of the push.
    #[must_use]
    pub fn due_ms(&self, now_ms: i64) -> Option<i64> {
        let delay = self.headers.get(DELAY).and_then(Value::as_i64);
        let delayed = delay.map(|delay_ms| now_ms.saturating_add(delay_ms));
        delayed.or_else(|| self.text_header("eta").and_then(time::from_iso))
    }

    /// When it is dropped if it has not started.
    #[must_use]
    pub fn expires_ms(&self) -> Option<i64> {
        match self.headers.get("expires")? {
            Value::String(text) => time::from_iso(text),
            _ => None,
        }
    }

    /// How often it was tried before.
    #[must_use]
    pub fn retries(&self) -> u32 {
        let retries = self.headers.get("retries").and_then(Value::as_u64).unwrap_or(0);
        u32::try_from(retries).unwrap_or(u32::MAX)
    }

    /// A header as it came.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&Value> {
        self.headers.get(name)
    }

    /// The body's size as it travels.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Reads the body: positional and keyword arguments, and what follows the task.
    ///
    /// # Errors
    /// [`Error::Arguments`] when it is not Celery's JSON triple; pickle is refused by name.
    pub fn read_body(&self) -> Result<Body> {
        Body::read(self).map_err(|reason| self.wrong(reason))
    }

    /// Reads the arguments as `T`: a struct takes positional ones by the order of its fields and
    /// keyword ones by name, a tuple or list the positional ones.
    ///
    /// # Errors
    /// [`Error::Arguments`] saying what is wrong with them.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        let Body { args, kwargs, .. } = self.read_body()?;
        arguments::read(args, kwargs).map_err(|error| self.wrong(error.to_string()))
    }

    /// Replaces the arguments, as someone who repairs a dead task does.
    ///
    /// # Errors
    /// [`Error::Arguments`] when the body that is there cannot be read.
    pub fn set_arguments(&mut self, args: Vec<Value>, kwargs: Map<String, Value>) -> Result<()> {
        let body = self.read_body().unwrap_or(Body { embed: body::no_embed(), ..Body::default() });
        self.write_body(&Body { args, kwargs, ..body });
        Ok(())
    }

    /// Takes over what whoever pushed `cause` had seen, and notes the cause.
    pub(crate) fn inherit(mut self, cause: &Self) -> Self {
        for (name, value) in cause.headers.iter() {
            // `throng_…` says how an engine keeps that one task.
            if name.starts_with("throng-") {
                self.headers.insert(name, value.clone());
            }
        }
        self.headers.insert("parent_id", json!(cause.id()));
        self.headers.insert("root_id", cause.headers.get("root_id").cloned());
        self
    }

    fn write_body(&mut self, body: &Body) {
        self.body = body.to_json().into();
        self.content_type = Cow::Borrowed(body::JSON);
        self.content_encoding = Cow::Borrowed(body::UTF_8);
        self.headers.remove("compression");
    }

    #[cfg(feature = "redis")]
    pub(crate) fn is_delayed(&self) -> bool {
        self.headers.contains(DELAY)
    }

    /// Says when the task is due rather than after how long, so that it can wait anywhere.
    pub(crate) fn fix_delay(&mut self, now_ms: i64) {
        if self.headers.contains(DELAY) {
            let due_ms = self.due_ms(now_ms);
            self.headers.remove(DELAY);
            self.headers.insert("eta", json!(due_ms.map(time::to_iso)));
        }
    }

    /// For what is told to run now: on a broker the message is all that travels.
    pub(crate) fn clear_eta(&mut self) {
        self.headers.remove("eta");
    }

    pub(crate) fn clear_expiry(&mut self) {
        self.headers.remove("expires");
        self.properties.remove("expiration");
    }

    pub(crate) fn set_retries(&mut self, retries: u32) {
        self.headers.insert("retries", json!(retries));
    }

    pub(crate) fn most_retries(&self) -> Option<u32> {
        self.headers.get(MAX_RETRIES)?.as_u64().map(|most| u32::try_from(most).unwrap_or(u32::MAX))
    }

    #[cfg(any(feature = "redis", feature = "rabbitmq"))]
    pub(crate) fn ignores_result(&self) -> bool {
        self.headers.get("ignore_result").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Where the result goes, and the name under which it is awaited there.
    #[cfg(feature = "rabbitmq")]
    pub(crate) fn reply_to(&self) -> Option<(&str, &str)> {
        let text = |name: &str| self.properties.get(name).and_then(Value::as_str);
        let id = || self.text_header("id");
        Some((text("reply_to")?, text("correlation_id").or_else(id)?))
    }

    pub(crate) fn unique_key(&self) -> Option<&str> {
        self.text_header(UNIQUE)
    }

    pub(crate) fn is_debounced(&self) -> bool {
        self.headers.get(DEBOUNCED).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn is_at_most_once(&self) -> bool {
        self.headers.get(AT_MOST_ONCE).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Soft and hard limit, if the message sets them.
    pub(crate) fn limits(&self) -> [Option<Duration>; 2] {
        let limits = self.headers.get(LIMITS);
        let limit = |at: usize| {
            let seconds = limits.and_then(|limits| limits.get(at)).and_then(Value::as_f64)?;
            Duration::try_from_secs_f64(seconds).ok()
        };
        [limit(1), limit(0)]
    }

    fn text_header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }

    fn wrong(&self, reason: String) -> Error {
        Error::Arguments { name: self.name().into(), reason }
    }
}

/// Headers that Celery always writes: null where they say nothing, limits two of it.
const EMPTY: [&str; 7] = ["eta", "expires", "group", "group_index", "parent_id", "shadow", LIMITS];
const LIMITS: &str = "timelimit";
const DELIVERY_INFO: &str = "delivery_info";
const DELAY: &str = "throng_delay_ms";
const MAX_RETRIES: &str = "throng_max_retries";
const UNIQUE: &str = "throng_unique";
const DEBOUNCED: &str = "throng_debounced";
const AT_MOST_ONCE: &str = "throng_at_most_once";
