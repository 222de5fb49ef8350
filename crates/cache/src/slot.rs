//! An entry with its key, as the map in `store.rs` has it: what a hit needs lies side by side.

use std::{
    borrow::Borrow,
    cell::Cell,
    hash::{Hash, Hasher},
    marker::PhantomData,
    sync::Arc,
};

use quick_cache::Equivalent;

use crate::entry::Entry;

/// A key and what is under it. It is found, and told from others, by the key alone.
pub(crate) struct Slot<V> {
    pub(crate) name: Name,
    /// The entry's value, once more: a hit does without the entry.
    pub(crate) value: V,
    /// Until then the value may be used without a look at the entry.
    pub(crate) quick_until_ms: i64,
    pub(crate) entry: Arc<Entry<V>>,
}

/// A key, most of which are short enough to be where they are compared.
#[derive(Clone)]
pub(crate) enum Name {
    Short(u8, [u8; SHORT_BYTES]),
    Long(Arc<[u8]>),
}

/// A look-up that reads something of the slot where there is one, under the lock that the map takes
/// anyway. Handing the entry out instead costs two counts of references, half as much as all the
/// rest of a look-up.
pub(crate) struct Reading<'a, V, F, R> {
    key: &'a [u8],
    read: F,
    found: Cell<Option<R>>,
    of: PhantomData<V>,
}

impl<V: Clone> Slot<V> {
    pub(crate) fn new(key: &str, entry: Entry<V>) -> Self {
        // Whether a tag has expired it, only the entry knows.
        let quick_until_ms = if entry.tags.is_empty() { entry.early_from_ms } else { i64::MIN };
        let value = entry.value.clone();
        Self { name: Name::of(key), value, quick_until_ms, entry: Arc::new(entry) }
    }
}

impl<'a, V, F: Fn(&Slot<V>) -> Option<R>, R> Reading<'a, V, F, R> {
    pub(crate) fn new(key: &'a str, read: F) -> Self {
        Self { key: key.as_bytes(), read, found: Cell::new(None), of: PhantomData }
    }

    /// What was read, where there was something.
    pub(crate) fn found(self) -> Option<R> {
        self.found.into_inner()
    }
}

impl Name {
    pub(crate) fn of(key: &str) -> Self {
        let key = key.as_bytes();
        let mut bytes = [0; SHORT_BYTES];
        match (u8::try_from(key.len()), bytes.get_mut(..key.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(key);
                Self::Short(len, bytes)
            }
            _ => Self::Long(key.into()),
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len).min(SHORT_BYTES)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl<V> Hash for Slot<V> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.bytes().hash(state);
    }
}

impl<V> PartialEq for Slot<V> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.name.bytes() == other.name.bytes()
    }
}

impl<V> Eq for Slot<V> {}

impl<V> Borrow<[u8]> for Slot<V> {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.name.bytes()
    }
}

impl<V, F, R> Hash for Reading<'_, V, F, R> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl<V, F: Fn(&Slot<V>) -> Option<R>, R> Equivalent<Slot<V>> for Reading<'_, V, F, R> {
    #[inline]
    fn equivalent(&self, slot: &Slot<V>) -> bool {
        let is_found = self.key == slot.name.bytes();
        if is_found {
            self.found.set((self.read)(slot));
        }
        is_found
    }
}

/// With this a name takes 32 bytes.
const SHORT_BYTES: usize = 30;
