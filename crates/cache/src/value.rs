//! Values as the cache holds them in this process: of their own type, so that a hit decodes nothing.

use std::{any::Any, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// What can be cached: everything that has these traits.
///
/// Every hit clones the value, while whoever writes to the same part of the cache waits: put what is
/// large behind an [`Arc`](std::sync::Arc). A `clone` must not use the cache itself.
pub trait Cacheable: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Cacheable for T {}

/// A value of some type.
pub(crate) type Value = Arc<dyn Held>;

pub(crate) trait Held: Any + Send + Sync {
    /// The value as JSON, for who asks for it as another type.
    fn json(&self) -> serde_json::Result<Vec<u8>>;

    /// The value itself, when it is bytes.
    fn bytes(&self) -> Option<&[u8]>;
}

struct Typed<T>(T);

impl<T: Cacheable> Held for Typed<T> {
    fn json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.0)
    }

    fn bytes(&self) -> Option<&[u8]> {
        let value: &dyn Any = &self.0;
        value.downcast_ref::<Vec<u8>>().map(Vec::as_slice)
    }
}

pub(crate) fn hold<T: Cacheable>(value: T) -> Value {
    Arc::new(Typed(value))
}

/// The value itself, when it is a `T`.
pub(crate) fn held<T: Cacheable>(value: &Value) -> Option<&T> {
    let any: &dyn Any = &**value;
    any.downcast_ref::<Typed<T>>().map(|Typed(value)| value)
}

/// Reads a held value as a `T`: by cloning when it is one, through JSON otherwise.
pub(crate) fn read<T: Cacheable>(key: &str, value: &Value) -> Result<T> {
    if let Some(value) = held::<T>(value) {
        return Ok(value.clone());
    }
    let json = value.json().map_err(|error| Error::value("read", key, error))?;
    decode(key, &json)
}

/// What says that there is no value under a key, whatever its type.
pub(crate) fn absent() -> Value {
    Arc::new(Absent)
}

struct Absent;

impl Held for Absent {
    fn json(&self) -> serde_json::Result<Vec<u8>> {
        Ok(b"null".to_vec())
    }

    fn bytes(&self) -> Option<&[u8]> {
        None
    }
}

pub(crate) fn is_absent(value: &Value) -> bool {
    let any: &dyn Any = &**value;
    any.is::<Absent>()
}

/// Whether the value can be a `T`, as far as being absent goes.
pub(crate) fn suits<T: Cacheable>(value: &Value) -> bool {
    !is_absent(value) || serde_json::from_slice::<T>(b"null").is_ok()
}

/// Reads a held value as a `T`; `None` when it says that there is none.
pub(crate) fn read_some<T: Cacheable>(key: &str, value: &Value) -> Result<Option<T>> {
    if suits::<T>(value) { read(key, value).map(Some) } else { Ok(None) }
}

pub(crate) fn encode<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::value("write", key, error))
}

pub(crate) fn decode<T: DeserializeOwned>(key: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::value("read", key, error))
}

/// Whether a value says that there is none, in JSON.
pub(crate) fn is_empty(json: &[u8]) -> bool {
    json == b"null"
}
