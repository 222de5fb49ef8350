//! Values as Python's clients write and read them. With memcached's, client flags say what the bytes
//! are; on Redis, Django's backends write a whole number as digits and everything else as a pickle,
//! which django-redis may compress.
//!
//! | flags | bytes | written for |
//! |---|---|---|
//! | 0 | as they are | `Vec<u8>` |
//! | 16 | UTF-8 | text |
//! | 4, read also 2 | decimal digits | whole numbers |
//! | 1 | a pickle | everything else |
//! | 8 on top | compressed by zlib | nothing; read only |

use std::io::Read;

use bytes::Bytes;
use serde_json::{Map, Number, Value as Json};

use crate::{
    engine::{Item, Values},
    pickle::{self, Data},
};

/// Writes bytes.
pub(crate) fn from_bytes(bytes: &[u8], values: Values) -> Item {
    match values {
        Values::Pickled => pickled(&Data::Bytes(bytes.to_vec())),
        _ => Item { bytes: Bytes::copy_from_slice(bytes), flags: BYTES },
    }
}

/// Writes a value that is JSON.
pub(crate) fn from_json(json: Json, values: Values) -> Item {
    let is_pickled = values == Values::Pickled;
    match json {
        Json::Number(number) if !number.is_f64() => {
            Item { bytes: number.to_string().into(), flags: if is_pickled { 0 } else { LONG } }
        }
        other if is_pickled => pickled(&data(other)),
        Json::String(text) => Item { bytes: text.into(), flags: TEXT },
        other => Item { flags: PICKLE, ..pickled(&data(other)) },
    }
}

fn pickled(data: &Data) -> Item {
    Item { bytes: pickle::dump(data).into(), flags: 0 }
}

/// What an item holds.
#[derive(Debug, PartialEq)]
pub(crate) enum Decoded {
    /// Bytes, of which nobody says what they are.
    Bytes(Vec<u8>),
    /// A value.
    Json(Json),
}

/// Reads an item, or says why not.
pub(crate) fn read(item: &Item, values: Values) -> Result<Decoded, String> {
    if values == Values::Pickled {
        return read_pickled(&item.bytes);
    }
    let bytes = if item.flags & ZLIB == 0 { item.bytes.to_vec() } else { inflate(&item.bytes)? };
    let text = |bytes| String::from_utf8(bytes).map_err(|_| "its text is not UTF-8".to_owned());
    match item.flags & !ZLIB {
        BYTES => Ok(Decoded::Bytes(bytes)),
        TEXT => Ok(Decoded::Json(Json::String(text(bytes)?))),
        INTEGER | LONG => {
            let digits = text(bytes)?;
            let number = digits.trim().parse::<Number>().map_err(|error| error.to_string())?;
            Ok(Decoded::Json(Json::Number(number)))
        }
        PICKLE => unpickle(&bytes),
        flags => Err(format!("its flags {flags} are of no client that is known")),
    }
}

/// Reads what a Redis backend wrote, which says by itself what it is.
fn read_pickled(bytes: &[u8]) -> Result<Decoded, String> {
    if let Some(number) = std::str::from_utf8(bytes).ok().and_then(whole_number) {
        return Ok(Decoded::Json(Json::Number(number)));
    }
    // No pickle begins as zlib does.
    if bytes.first() == Some(&ZLIB_HEAD) { unpickle(&inflate(bytes)?) } else { unpickle(bytes) }
}

fn whole_number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_whole)
}

fn unpickle(bytes: &[u8]) -> Result<Decoded, String> {
    match pickle::load(bytes).map_err(|error| error.to_string())? {
        Data::Bytes(bytes) => Ok(Decoded::Bytes(bytes)),
        data => Ok(Decoded::Json(json(data)?)),
    }
}

fn inflate(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let limit = MAX_INFLATED + 1;
    let mut reader = flate2::read::ZlibDecoder::new(packed).take(limit);
    let read = reader.read_to_end(&mut plain).map_err(|error| error.to_string())?;
    if read as u64 == limit {
        Err(format!("it unpacks to over {MAX_INFLATED} bytes"))
    } else {
        Ok(plain)
    }
}

fn data(json: Json) -> Data {
    match json {
        Json::Null => Data::None,
        Json::Bool(is_true) => Data::Bool(is_true),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Data::Int(number),
            None => Data::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Data::Text(text),
        Json::Array(items) => Data::List(items.into_iter().map(data).collect()),
        Json::Object(map) => {
            Data::Dict(map.into_iter().map(|(key, value)| (Data::Text(key), data(value))).collect())
        }
    }
}

fn json(data: Data) -> Result<Json, String> {
    Ok(match data {
        Data::None => Json::Null,
        Data::Bool(is_true) => Json::Bool(is_true),
        Data::Int(number) => number.into(),
        Data::Float(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Data::Text(text) => Json::String(text),
        Data::Bytes(bytes) => bytes.into(),
        Data::List(items) | Data::Tuple(items) => {
            Json::Array(items.into_iter().map(json).collect::<Result<_, _>>()?)
        }
        Data::Dict(pairs) => {
            let mut map = Map::new();
            for (key, value) in pairs {
                // As Python's own `json` writes keys.
                let key = match key {
                    Data::Text(text) => text,
                    Data::Int(number) => number.to_string(),
                    Data::None => "null".to_owned(),
                    Data::Bool(is_true) => is_true.to_string(),
                    other => return Err(format!("a dict has the key {other:?}")),
                };
                map.insert(key, json(value)?);
            }
            Json::Object(map)
        }
    })
}

const BYTES: u32 = 0;
const PICKLE: u32 = 1;
const INTEGER: u32 = 2;
const LONG: u32 = 4;
const ZLIB: u32 = 8;
const TEXT: u32 = 16;
/// The first byte of a zlib stream.
const ZLIB_HEAD: u8 = 0x78;
const MAX_INFLATED: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_the_real_clients_are_read() {
        let vectors: Json =
            serde_json::from_str(include_str!("../tests/it/python_values.json")).unwrap();
        let mut read_values = 0;
        for vector in vectors["values"].as_array().unwrap() {
            let hex = vector["hex"].as_str().unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let flags = u32::try_from(vector["flags"].as_u64().unwrap()).unwrap();
            let value = read(&Item { bytes: bytes.into(), flags }, Values::Python);
            let expected = match vector["python"].as_str().unwrap() {
                "str" => json!("héllo"),
                "empty str" => json!(""),
                "bytes" => {
                    assert!(matches!(value, Ok(Decoded::Bytes(_))));
                    continue;
                }
                "int 42" => json!(42),
                "int -7" => json!(-7),
                // Over 64 bits: as near as a float comes.
                "int 2**70" => json!(1_180_591_620_717_411_303_424_f64),
                // pylibmc itself reads these back as numbers.
                "True" if flags == 2 => json!(1),
                "False" => json!(0),
                "True" => json!(true),
                "None" => json!(null),
                "float 1.5" => json!(1.5),
                "list" => json!([1, "a"]),
                "dict" => json!({"a": 1}),
                "tuple" => json!([1]),
                "mint tuple" => json!(["html", 1_700_000_000.5, false]),
                "'x'*1000 with min_compress_len=100" => json!("x".repeat(1_000)),
                other => panic!("an unknown vector {other}"),
            };
            assert_eq!(value.unwrap(), Decoded::Json(expected));
            read_values += 1;
        }
        assert_eq!(read_values, 19);
    }

    proptest! {
        #[test]
        fn any_item_is_read_or_refused_without_panic(bytes: Vec<u8>, flags in 0..40_u32) {
            let item = Item { bytes: bytes.into(), flags };
            for values in [Values::Python, Values::Pickled] {
                let _ = read(&item, values);
            }
        }
    }
}
