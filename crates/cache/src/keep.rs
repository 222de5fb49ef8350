//! What one request has read: for as long as it lasts, it reads the same again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::DefaultHashBuilder;

use crate::{Cache, value::Value};

/// The values that a request has read, and until when it goes by them.
#[derive(Default)]
pub(crate) struct Keep {
    values: Mutex<Values>,
}

type Values = HashMap<Box<str>, (Value, i64), DefaultHashBuilder>;

impl Cache {
    /// A handle for one request: what it has read under a key it reads again, without asking
    /// anybody, so that all parts of a page show the same. What is written through it is read back
    /// at once; what others write meanwhile, it does not see.
    ///
    /// It keeps at most 1,000 values, each for at most [`Config::keep_ms`](crate::Config::keep_ms),
    /// and clones of it share them. The facade gives every request, task and command one.
    #[must_use]
    pub fn keep(&self) -> Self {
        Self { keep: Some(Arc::default()), ..self.clone() }
    }

    /// A handle that keeps nothing for a request: for what goes on for long, such as a live page.
    #[must_use]
    pub fn unkept(&self) -> Self {
        Self { keep: None, ..self.clone() }
    }

    pub(crate) fn kept(&self, key: &str) -> Option<Value> {
        let keep = self.keep.as_ref()?;
        let now_ms = self.core().near.now_ms();
        let values = keep.values();
        let (value, _) = values.get(key).filter(|(_, until_ms)| now_ms < *until_ms)?;
        self.core().count_hit(key);
        Some(Arc::clone(value))
    }

    pub(crate) fn keep_for_request(&self, key: &str, value: &Value) {
        let Some(keep) = &self.keep else { return };
        let core = self.core();
        let keep_ms = i64::try_from(core.config.keep_ms).unwrap_or(i64::MAX);
        let until_ms = core.near.now_ms().saturating_add(keep_ms);
        let mut values = keep.values();
        if values.len() < MAX_KEPT || values.contains_key(key) {
            values.insert(key.into(), (Arc::clone(value), until_ms));
        }
    }

    /// Forgets what the request has read under `key`.
    pub(crate) fn unkeep(&self, key: &str) {
        if let Some(keep) = &self.keep {
            keep.values().remove(key);
        }
    }

    /// Forgets all that the request has read.
    pub(crate) fn unkeep_all(&self) {
        if let Some(keep) = &self.keep {
            keep.values().clear();
        }
    }
}

impl Keep {
    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many values a request keeps. Those beyond are read as if there were no request.
const MAX_KEPT: usize = 1_000;
