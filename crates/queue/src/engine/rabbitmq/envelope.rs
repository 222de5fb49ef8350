//! A task as RabbitMQ carries it: Celery's headers in a field table, the body as it is.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};
use serde_json::{Map, Number, Value, json};

use crate::{Message, Result, message::Fields};

/// A message on its way to the default exchange.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) queue: ShortString,
    pub(super) message: Message,
    ledger: Option<String>,
    now_ms: i64,
}

/// A result for whoever asked for one: Celery's own message of its RPC backend.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) to: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

impl Outgoing {
    /// `ledger` is set on what has a row, by which whoever gets it knows where to look.
    pub(super) fn of(message: &Message, ledger: Option<&str>, now_ms: i64) -> Self {
        let (queue, ledger) = (short(message.queue_name()), ledger.map(str::to_owned));
        Self { queue, message: message.clone(), ledger, now_ms }
    }

    /// Made when it is sent, because lapin keeps them.
    pub(super) fn properties(&self) -> BasicProperties {
        let (message, ledger) = (&self.message, self.ledger.as_deref());
        let mut headers = headers(&message.headers);
        if let Some(ledger) = ledger {
            headers.insert(LEDGER.into(), AMQPValue::LongString(ledger.into()));
        }
        let text = |name: &str| message.properties.get(name).and_then(Value::as_str);
        let id = || message.headers.get("id").and_then(Value::as_str).unwrap_or_default();
        let mut properties = BasicProperties::default()
            .with_content_type(short(&message.content_type))
            .with_content_encoding(short(&message.content_encoding))
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_priority(message.priority_level())
            .with_correlation_id(short(text("correlation_id").unwrap_or_else(id)));
        let reply_to = text("reply_to").map(short);
        let ours = ledger.filter(|_| !message.ignores_result());
        if let Some(reply_to) = reply_to.or_else(|| ours.map(|ledger| short(&results(ledger)))) {
            properties = properties.with_reply_to(reply_to);
        }
        if let Some(at_ms) = message.expires_ms() {
            let left_ms = at_ms.saturating_sub(self.now_ms).max(0);
            properties = properties.with_expiration(left_ms.to_string().into());
        }
        properties
    }
}

impl Told {
    pub(super) fn of(to: &str, correlation_id: &str, result: &Value) -> Self {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(1)
            .with_correlation_id(short(correlation_id));
        Self { to: short(to), properties, body: result.to_string().into_bytes() }
    }
}

/// A message as it came from `queue`, and the ledger that it names.
pub(super) fn read(
    properties: &BasicProperties,
    data: &[u8],
    queue: &str,
) -> (Result<Message>, Option<String>) {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let all = properties.headers().as_ref().map(FieldTable::inner);
    let mut headers: Fields =
        all.into_iter().flatten().map(|(name, value)| (name.as_str(), plain(value))).collect();
    let ledger = headers.remove(LEDGER).and_then(|id| id.as_str().map(str::to_owned));
    let kept = [
        ("body_encoding", Some(json!("base64"))),
        ("correlation_id", text(properties.correlation_id()).map(Value::String)),
        ("delivery_mode", Some(json!(2))),
        ("priority", Some(json!(properties.priority().unwrap_or(0)))),
        ("reply_to", text(properties.reply_to()).map(Value::String)),
    ];
    let kept = kept.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let kinds = [properties.content_type(), properties.content_encoding()];
    let kinds = kinds.map(|kind| kind.as_ref().map(ShortString::as_str));
    // Wherever it was published to, this is the queue that it goes back to when it is tried again.
    let message = Message::from_parts(headers, kept, data.to_vec(), kinds);
    (message.map(|message| message.queue(queue)), ledger)
}

/// What cannot be read, as text that keeps every byte.
pub(super) fn raw(properties: &BasicProperties, data: &[u8]) -> Value {
    let headers = properties.headers().as_ref().map(object).unwrap_or_default();
    let body = match std::str::from_utf8(data) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": BASE64.encode(data)}),
    };
    json!({"headers": headers, "body": body})
}

/// Where workers in other languages send the results of the tasks of a ledger.
pub(super) fn results(ledger: &str) -> String {
    format!("throng.results.{ledger}")
}

/// Cut where AMQP ends: 255 bytes. Only strangers' texts are that long.
fn short(text: &str) -> ShortString {
    let end = (0..=text.len().min(255)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].into()
}

/// Headers that say nothing stay here: whoever gets the message takes what is missing as null, as
/// Celery does, and RabbitMQ has a quarter more work with a message that has them all.
fn headers(all: &Fields) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in all.iter().filter(|(_, value)| says_something(value)) {
        table.insert(short(name), field(value));
    }
    table
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(values) => values.iter().any(says_something),
        _ => true,
    }
}

fn table(object: &Map<String, Value>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in object {
        table.insert(short(name), field(value));
    }
    table
}

fn field(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(is_so) => AMQPValue::Boolean(*is_so),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => match i32::try_from(whole) {
                Ok(small) => AMQPValue::LongInt(small),
                Err(_) => AMQPValue::LongLongInt(whole),
            },
            (None, broken) => AMQPValue::Double(broken.unwrap_or(0.0)),
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.iter().map(field).collect::<Vec<_>>()))
        }
        Value::Object(object) => AMQPValue::FieldTable(table(object)),
    }
}

fn object(table: &FieldTable) -> Map<String, Value> {
    table.inner().iter().map(|(name, value)| (name.to_string(), plain(value))).collect()
}

fn plain(value: &AMQPValue) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match value {
        AMQPValue::Boolean(is_so) => json!(is_so),
        AMQPValue::ShortShortInt(number) => json!(number),
        AMQPValue::ShortShortUInt(number) => json!(number),
        AMQPValue::ShortInt(number) => json!(number),
        AMQPValue::ShortUInt(number) => json!(number),
        AMQPValue::LongInt(number) => json!(number),
        AMQPValue::LongUInt(number) => json!(number),
        AMQPValue::LongLongInt(number) => json!(number),
        AMQPValue::Float(number) => float(f64::from(*number)),
        AMQPValue::Double(number) => float(*number),
        AMQPValue::DecimalValue(decimal) => {
            float(f64::from(decimal.value) / 10_f64.powi(i32::from(decimal.scale)))
        }
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::LongString(text) => json!(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(plain).collect(),
        AMQPValue::Timestamp(seconds) => json!(seconds),
        AMQPValue::FieldTable(inner) => Value::Object(object(inner)),
        AMQPValue::ByteArray(bytes) => json!(BASE64.encode(bytes.as_slice())),
        AMQPValue::Void => Value::Null,
    }
}

/// The header by which a message names the ledger that has its row.
const LEDGER: &str = "throng_ledger";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let headers = json!({
            "task": "mail", "retries": 3, "big": 1_i64 << 40, "half": 0.5, "none": null,
            "timelimit": [null, 7], "stamps": {"a": true}, "text": "ü",
        });
        let Value::Object(headers) = headers else { panic!() };
        assert_eq!(object(&table(&headers)), headers);
    }

    #[test]
    fn headers_that_say_nothing_are_not_sent() {
        let message = Message::new("mail", ()).unwrap().ignore_result();
        let names: Vec<String> = object(&headers(&message.headers)).keys().cloned().collect();
        assert_eq!(names, ["id", "ignore_result", "lang", "retries", "root_id", "task"]);
        let properties = Outgoing::of(&message, None, 0).properties();
        let back = read(&properties, &message.body, "default").0.unwrap();
        assert_eq!((back.id(), back.name()), (message.id(), "mail"));
    }

    #[test]
    fn what_is_too_long_for_a_short_string_is_cut_between_characters() {
        assert_eq!(short(&"ü".repeat(200)).as_str().len(), 254);
    }
}
