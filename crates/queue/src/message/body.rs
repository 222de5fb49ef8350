//! The body: the triple of arguments, keyword arguments and what follows the task.

use std::{borrow::Cow, io::Read as _};

use flate2::read::ZlibDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Message;

/// What a message's body says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Celery's callbacks, errbacks, chain and chord.
    pub embed: Value,
}

/// The content type of JSON bodies, the only one that is read.
pub(crate) const JSON: &str = "application/json";
/// The encoding of these.
pub(super) const UTF_8: &str = "utf-8";

impl Body {
    /// Reads a message's body; the error says what is wrong with it.
    pub(super) fn read(message: &Message) -> Result<Self, String> {
        if message.content_type != JSON {
            return Err(format!(
                "the body is `{}`, and only `{JSON}` is read",
                message.content_type
            ));
        }
        let bytes = match message.header_value("compression").map(|name| name.as_str()) {
            None => Cow::Borrowed(&*message.body),
            // kombu's name for what zlib makes.
            Some(Some("application/x-gzip")) => Cow::Owned(inflate(&message.body)?),
            Some(name) => {
                let name = name.unwrap_or("in a way that has no name");
                return Err(format!("the body is compressed ({name}), and only zlib is read"));
            }
        };
        let triple: Triple = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let Triple(args, kwargs, embed) = triple;
        let mut body =
            Self { args: args.unwrap_or_default(), kwargs: kwargs.unwrap_or_default(), embed };
        if bytes.windows(TYPE.len()).any(|window| window == TYPE.as_bytes()) {
            body.args.iter_mut().chain(body.kwargs.values_mut()).for_each(untype);
        }
        Ok(body)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let triple = (&self.args, &self.kwargs, &self.embed);
        serde_json::to_vec(&triple).expect("JSON values are always written")
    }
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut inflated = Vec::new();
    let mut decoder = ZlibDecoder::new(bytes).take(MAX_INFLATED + 1);
    decoder.read_to_end(&mut inflated).map_err(|error| format!("the body is no zlib: {error}"))?;
    match inflated.len() as u64 > MAX_INFLATED {
        true => Err(format!("the body has over {MAX_INFLATED} bytes when it is inflated")),
        false => Ok(inflated),
    }
}

/// Takes the types off what kombu writes for Python's dates, decimals, ids and bytes: their text is
/// what JSON has for them.
fn untype(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(untype),
        Value::Object(object) => match (object.get(TYPE).is_some(), object.get("__value__")) {
            (true, Some(inner)) => {
                let hex = inner.get("hex").and_then(Value::as_str);
                *value = hex.and_then(dashed).map_or_else(|| inner.clone(), Value::String);
            }
            _ => object.values_mut().for_each(untype),
        },
        _ => {}
    }
}

/// A UUID as Python and everybody else prints it.
fn dashed(hex: &str) -> Option<String> {
    let part = |range| hex.get(range);
    let [a, b, c, d, e] = [part(0..8)?, part(8..12)?, part(12..16)?, part(16..20)?, part(20..32)?];
    (hex.len() == 32).then(|| format!("{a}-{b}-{c}-{d}-{e}"))
}

/// An embed that says that nothing follows.
pub(super) fn no_embed() -> Value {
    json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null})
}

#[derive(Deserialize, Serialize)]
struct Triple(Option<Vec<Value>>, Option<Map<String, Value>>, Value);

const TYPE: &str = "__type__";
/// A bomb is refused long before it fills the memory.
const MAX_INFLATED: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    fn compressed(bytes: &[u8]) -> Message {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        let mut message = Message::new("t", ()).unwrap();
        message.body = encoder.finish().unwrap().into();
        message.header("compression", "application/x-gzip")
    }

    #[test]
    fn a_compressed_body_is_read_and_a_bomb_is_not() {
        let message = compressed(br#"[[1, 2], {}, null]"#);
        assert_eq!(message.arguments::<(i64, i64)>().unwrap(), (1, 2));
        let bomb = compressed(&vec![b' '; (17 << 20) as usize]);
        assert!(bomb.read_body().unwrap_err().to_string().contains("when it is inflated"));
        let other = message.header("compression", "application/x-bz2");
        assert!(other.read_body().unwrap_err().to_string().contains("x-bz2"));
    }

    #[test]
    fn a_body_that_was_compressed_is_plain_once_it_is_edited() {
        let mut message = compressed(br#"[[1], {}, null]"#);
        message.set_arguments(vec![json!(2)], Map::new()).unwrap();
        assert_eq!(message.arguments::<i64>().unwrap(), 2);
    }

    #[test]
    fn python_types_become_their_text() {
        let mut message = Message::new("t", ()).unwrap();
        message.body = br#"[[
            {"__type__": "datetime", "__value__": "2026-11-21T10:00:00+00:00"},
            {"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000007"}},
            [{"__type__": "decimal", "__value__": "1.50"}]
        ], {"plain": {"value": 1}}, null]"#
            .as_slice()
            .into();
        let body = message.read_body().unwrap();
        let [when, id, price] = body.args.as_slice() else { panic!() };
        assert_eq!(when, "2026-11-21T10:00:00+00:00");
        assert_eq!(id, "00000000-0000-0000-0000-000000000007");
        assert_eq!(price, &json!(["1.50"]));
        assert_eq!(body.kwargs["plain"], json!({"value": 1}));
    }
}
