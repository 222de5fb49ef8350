//! Headers and properties: a list in the order of names.
//!
//! A worker holds tens of thousands of messages at once, each with a score of fields. A map takes
//! kilobytes for them, and copies each name; here what is null is left out, names that everybody
//! uses are not copied, and a copy of a message shares all until it is changed.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// Named values, each name once; what is null is not there.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Fields(Arc<Vec<(Name, Value)>>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Cow<'static, str>);

impl Fields {
    /// Of what came in any order, in which the last of a name counts: who sends very many fields
    /// costs no more than sorting them.
    fn of(mut fields: Vec<(Name, Value)>) -> Self {
        if !fields.is_sorted_by(|(one, _), (other, _)| one < other) {
            fields.reverse();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            fields.dedup_by(|(later, _), (kept, _)| later == kept);
        }
        fields.retain(|(_, value)| !value.is_null());
        fields.shrink_to_fit();
        Self(Arc::new(fields))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.place(name).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    pub(crate) fn insert(&mut self, name: &str, value: impl Into<Value>) {
        let (value, place) = (value.into(), self.place(name));
        let fields = Arc::make_mut(&mut self.0);
        match (place, value.is_null()) {
            (Ok(at), true) => drop(fields.remove(at)),
            (Ok(at), false) => fields[at].1 = value,
            (Err(_), true) => {}
            (Err(at), false) => fields.insert(at, (Name::of(name), value)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.place(name).ok()?;
        Some(Arc::make_mut(&mut self.0).remove(at).1)
    }

    /// In the order of names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&*name.0, value))
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (*other.0).cmp(name))
    }
}

impl<N: AsRef<str>> FromIterator<(N, Value)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(all: I) -> Self {
        Self::of(all.into_iter().map(|(name, value)| (Name::of(name.as_ref()), value)).collect())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> de::Visitor<'de> for Reader {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut all: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::with_capacity(USUAL);
        while let Some((name, value)) = all.next_entry()? {
            fields.push((name, value));
        }
        Ok(Fields::of(fields))
    }
}

impl Name {
    fn of(name: &str) -> Self {
        Self(match KNOWN.binary_search(&name) {
            Ok(at) => Cow::Borrowed(KNOWN[at]),
            Err(_) => Cow::Owned(name.to_owned()),
        })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Name, E> {
                Ok(Name::of(name))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// As many fields as most messages have at most.
const USUAL: usize = 16;
/// Names that Celery, kombu and we use, in their order.
const KNOWN: [&str; 36] = [
    "argsrepr",
    "body_encoding",
    "compression",
    "correlation_id",
    "delivery_info",
    "delivery_mode",
    "delivery_tag",
    "eta",
    "expiration",
    "expires",
    "group",
    "group_index",
    "id",
    "ignore_result",
    "kwargsrepr",
    "lang",
    "origin",
    "parent_id",
    "priority",
    "replaced_task_nesting",
    "reply_to",
    "retries",
    "root_id",
    "shadow",
    "stamped_headers",
    "stamps",
    "task",
    "throng_at_most_once",
    "throng_debounced",
    "throng_delay_ms",
    "throng_fire",
    "throng_immutable",
    "throng_ledger",
    "throng_max_retries",
    "throng_unique",
    "timelimit",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn known_names_are_in_their_order() {
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn a_copy_is_not_changed_with_the_original() {
        let mut fields: Fields =
            [("task", json!("mail")), ("id", json!("a"))].into_iter().collect();
        let copy = fields.clone();
        fields.insert("id", "b");
        fields.insert("task", Value::Null);
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"id":"b"}"#);
        assert_eq!(serde_json::to_string(&copy).unwrap(), r#"{"id":"a","task":"mail"}"#);
    }

    proptest! {
        #[test]
        fn it_is_a_map(pairs in prop::collection::vec(("(id|task|eta|[a-c]{0,2})", any::<Option<i8>>()), 0..30)) {
            let mut map: Map<String, Value> =
                pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let with_nulls = serde_json::to_string(&map).unwrap();
            map.retain(|_, value| !value.is_null());
            let fields: Fields =
                pairs.iter().map(|(name, value)| (name, json!(value))).collect();
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(serde_json::to_string(&fields).unwrap(), text.clone());
            prop_assert_eq!(&serde_json::from_str::<Fields>(&with_nulls).unwrap(), &fields);
            for name in ["id", "a", "zz"] {
                prop_assert_eq!(fields.get(name), map.get(name));
                prop_assert_eq!(fields.contains(name), map.contains_key(name));
            }
        }
    }
}
