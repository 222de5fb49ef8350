//! The envelope: one JSON object, as kombu writes it to Redis and as our tables store it.
//!
//! What is read here was written by strangers. Nothing panics, whatever the bytes; what lacks
//! something that a worker needs is an error that says what, so that the engine can put the bytes
//! aside instead of losing them.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value, json};

use super::{Body, DELIVERY_INFO, EMPTY, Fields, LIMITS, Message, body};
use crate::{Error, Result, TaskId};

impl Message {
    /// The envelope as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let envelope = Written {
            headers: Headers(&self.headers),
            body: BASE64.encode(&self.body),
            content_encoding: &self.content_encoding,
            content_type: &self.content_type,
            properties: Properties(self),
        };
        serde_json::to_string(&envelope).expect("JSON values are always written")
    }

    /// Reads an envelope, of protocol 2 or 1.
    ///
    /// # Errors
    /// [`Error::Malformed`] saying what is missing or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let envelope: Envelope<'_> =
            serde_json::from_slice(bytes).map_err(|error| Error::Malformed(error.to_string()))?;
        let mut properties = envelope.properties.unwrap_or_default();
        let encoding = properties.get("body_encoding").and_then(Value::as_str);
        let body = match encoding {
            Some("base64") => BASE64
                .decode(envelope.body.as_bytes())
                .map_err(|error| Error::Malformed(format!("the body is not base64: {error}")))?,
            None | Some(body::UTF_8) => envelope.body.into_owned().into_bytes(),
            Some(other) => {
                return Err(Error::Malformed(format!("unknown body encoding `{other}`")));
            }
        };
        properties.insert("body_encoding", "base64");
        let headers = envelope.headers.unwrap_or_default();
        let kinds = [envelope.content_type.as_deref(), envelope.content_encoding.as_deref()];
        Self::from_parts(headers, properties, body, kinds)
    }

    /// A message of protocol 2 or 1 whose parts came by themselves. `kinds` are the type and the
    /// encoding of its content.
    pub(crate) fn from_parts(
        mut headers: Fields,
        mut properties: Fields,
        body: Vec<u8>,
        kinds: [Option<&str>; 2],
    ) -> Result<Self> {
        let queue = properties.get(DELIVERY_INFO).and_then(|info| info.get(ROUTING_KEY)?.as_str());
        let queue = queue.map(Into::into);
        if properties.get(DELIVERY_INFO).is_some_and(says_only_queue) {
            properties.remove(DELIVERY_INFO);
        }
        if headers.get(LIMITS).is_some_and(|limits| *limits == json!([null, null])) {
            headers.remove(LIMITS);
        }
        let kind = |kind: Option<&str>, usual: &'static str| match kind {
            Some(other) if other != usual => Cow::Owned(other.to_owned()),
            _ => Cow::Borrowed(usual),
        };
        let mut message = Self {
            headers,
            properties,
            queue,
            body: body.into(),
            content_type: kind(kinds[0], body::JSON),
            content_encoding: kind(kinds[1], body::UTF_8),
        };
        if !message.headers.contains("task") {
            message.read_protocol_1()?;
        }
        message.check()?;
        Ok(message)
    }

    /// Protocol 1 has no headers; its body is one object with everything in it.
    fn read_protocol_1(&mut self) -> Result<()> {
        let missing = |what: &str| Error::Malformed(format!("{what}, and no `task` header"));
        if self.content_type != body::JSON {
            return Err(missing(&format!("the body is `{}`", self.content_type)));
        }
        let mut old: Map<String, Value> = serde_json::from_slice(&self.body)
            .map_err(|error| missing(&format!("the body is not protocol 1 ({error})")))?;
        let mut take = |key: &str| old.remove(key).unwrap_or(Value::Null);
        for key in ["task", "id", "retries", "eta", "expires", "group", "group_index", "timelimit"]
        {
            self.headers.insert(key, take(key));
        }
        if self.header_value("group").is_none() {
            self.headers.insert("group", take("taskset"));
        }
        self.headers.insert("root_id", self.headers.get("id").cloned());
        let embed = json!({
            "callbacks": take("callbacks"), "errbacks": take("errbacks"),
            "chain": null, "chord": take("chord"),
        });
        let (Value::Array(args), Value::Object(kwargs)) =
            (or(take("args"), json!([])), or(take("kwargs"), json!({})))
        else {
            return Err(Error::Malformed(
                "protocol 1 `args` or `kwargs` has the wrong type".into(),
            ));
        };
        self.body = Body { args, kwargs, embed }.to_json().into();
        Ok(())
    }

    /// Name, id and queue must be there and fit their columns, or no engine could keep the task.
    pub(crate) fn check(&self) -> Result<()> {
        for key in ["task", "id"] {
            match self.headers.get(key) {
                Some(Value::String(_)) => {}
                _ => return Err(Error::Malformed(format!("header `{key}` is not text"))),
            }
        }
        for (what, text) in [
            ("a task's name", self.name()),
            ("a task's id", self.text_header("id").unwrap_or_default()),
            ("a queue's name", self.queue_name()),
            ("a unique key", self.unique_key().unwrap_or("-")),
        ] {
            if !text.is_empty() && text.len() <= MAX_NAME {
                continue;
            }
            let length = text.chars().count();
            if length == 0 || length > MAX_NAME {
                return Err(Error::Name { what, length, max: MAX_NAME });
            }
        }
        Ok(())
    }

    /// What a real Celery worker cannot do without; a message that came without it gets it here.
    pub(crate) fn complete(&mut self) {
        if self.queue.is_none() {
            self.queue = Some(crate::DEFAULT_QUEUE.into());
            self.properties.remove(DELIVERY_INFO);
        }
        let tag = self.properties.get("delivery_tag");
        if tag.and_then(Value::as_str).is_none() {
            self.properties.insert("delivery_tag", json!(TaskId::random()));
        }
    }
}

/// The envelope as we write it. Its order is a promise to ourselves: whoever sees it begin with id,
/// name and `ignore_result` knows them without reading on.
#[derive(Serialize)]
struct Written<'a> {
    headers: Headers<'a>,
    body: String,
    #[serde(rename = "content-encoding")]
    content_encoding: &'a str,
    #[serde(rename = "content-type")]
    content_type: &'a str,
    properties: Properties<'a>,
}

struct Headers<'a>(&'a Fields);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first = FIRST.iter().filter_map(|key| Some((*key, self.0.get(key)?)));
        let others = self.0.iter().filter(|(key, _)| !FIRST.contains(key));
        let empty = EMPTY.iter().filter(|key| !self.0.contains(key));
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in first.chain(others) {
            map.serialize_entry(key, value)?;
        }
        for key in empty {
            match *key {
                LIMITS => map.serialize_entry(key, &[(), ()])?,
                key => map.serialize_entry(key, &())?,
            }
        }
        map.end()
    }
}

/// With the queue where kombu looks for it.
struct Properties<'a>(&'a Message);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Message { properties, queue, .. } = self.0;
        let queue = queue.as_deref().filter(|_| !properties.contains(DELIVERY_INFO));
        let info = queue.map(|queue| (DELIVERY_INFO, json!({"exchange": "", ROUTING_KEY: queue})));
        let info = info.as_ref().map(|(name, info)| (*name, info));
        serializer.collect_map(info.into_iter().chain(properties.iter()))
    }
}

fn says_only_queue(info: &Value) -> bool {
    let is_it = |object: &Map<String, Value>| {
        object.len() == 2
            && object.get("exchange").is_some_and(|exchange| exchange == "")
            && object.get(ROUTING_KEY).is_some_and(Value::is_string)
    };
    info.as_object().is_some_and(is_it)
}

const FIRST: [&str; 3] = ["id", "task", "ignore_result"];
const ROUTING_KEY: &str = "routing_key";

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow, rename = "content-encoding")]
    content_encoding: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "content-type")]
    content_type: Option<Cow<'a, str>>,
    headers: Option<Fields>,
    properties: Option<Fields>,
}

fn or(value: Value, default: Value) -> Value {
    if value.is_null() { default } else { value }
}

/// What fits an indexed column on every database.
const MAX_NAME: usize = 191;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_survives_its_envelope() {
        let message = Message::new("mail.send", json!({"to": "ü"})).unwrap().queue("mail");
        let message = message.priority(7).expires_at(1_700_000_000_123).header("x", 1);
        let back = Message::from_json(message.to_json().as_bytes()).unwrap();
        assert_eq!(back, message);
        assert_eq!((back.queue_name(), back.priority_level()), ("mail", 7));
        assert_eq!(back.expires_ms(), Some(1_700_000_000_123));
    }

    #[test]
    fn the_least_that_a_celery_worker_takes_is_taken() {
        let text = r#"{"body": "[[1, 2], {}, null]", "headers": {"task": "add", "id": "a-1"},
            "properties": {"delivery_tag": "t", "delivery_info": {"routing_key": "mail"}}}"#;
        let message = Message::from_json(text.as_bytes()).unwrap();
        assert_eq!(message.arguments::<(i64, i64)>().unwrap(), (1, 2));
        assert_eq!((message.name(), message.id().as_str()), ("add", "a-1"));
        assert_eq!(message.queue_name(), "mail");
    }

    #[test]
    fn protocol_1_is_read() {
        let body = r#"{"task": "add", "id": "b", "args": [4], "kwargs": {"y": 5}, "retries": 2,
            "eta": null, "taskset": "g", "utc": true}"#;
        let envelope = json!({"body": BASE64.encode(body), "headers": {}, "content-type": "application/json",
            "properties": {"body_encoding": "base64"}});
        let message = Message::from_json(envelope.to_string().as_bytes()).unwrap();
        let body = message.read_body().unwrap();
        assert_eq!((body.args, body.kwargs["y"].clone()), (vec![json!(4)], json!(5)));
        assert_eq!((message.retries(), message.header_value("group")), (2, Some(&json!("g"))));
    }

    #[test]
    fn pickle_is_refused_by_name() {
        let text = r#"{"body": "gAR9lC4=", "content-type": "application/x-python-serialize",
            "headers": {"task": "t", "id": "i"}, "properties": {"body_encoding": "base64"}}"#;
        let message = Message::from_json(text.as_bytes()).unwrap();
        let refused = message.read_body().unwrap_err().to_string();
        assert!(refused.contains("application/x-python-serialize"), "{refused}");
    }

    proptest! {
        #[test]
        fn strange_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Message::from_json(&bytes);
        }

        #[test]
        fn strange_envelopes_never_panic(
            body in ".{0,40}", encoding in "(base64|utf-8|rot13)", kind in "(application/json|x)",
            headers in strange(), properties in strange(),
        ) {
            let mut envelope = json!({"body": body, "content-type": kind, "headers": headers,
                "properties": properties});
            envelope["properties"]["body_encoding"] = json!(encoding);
            if let Ok(message) = Message::from_json(envelope.to_string().as_bytes()) {
                let _ = message.read_body();
                let _ = message.arguments::<(i64, String)>();
                let _ = (message.due_ms(i64::MAX), message.expires_ms(), message.limits());
                let _ = (message.retries(), message.most_retries(), message.priority_level());
                prop_assert!(Message::from_json(message.to_json().as_bytes()).is_ok());
            }
        }
    }

    /// Objects whose keys mean something to us and whose values mean nothing.
    fn strange() -> impl Strategy<Value = Map<String, Value>> {
        let key = prop::sample::select(vec![
            "task",
            "id",
            "eta",
            "expires",
            "retries",
            "timelimit",
            "delivery_info",
            "priority",
            "throng_delay_ms",
            "throng_unique",
            "delivery_tag",
            "compression",
            "group",
        ]);
        let value = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            Just(json!([1e308, "x"])),
            Just(json!({"routing_key": 3})),
            Just(json!("2026-02-30T25:61:61Z")),
        ];
        prop::collection::vec((key.prop_map(String::from), value), 0..8)
            .prop_map(|pairs| pairs.into_iter().collect())
    }
}
