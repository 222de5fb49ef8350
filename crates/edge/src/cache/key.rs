//! The name under which an address is stored.

use std::sync::Arc;

use http::Uri;

/// A key is found by its text as well.
impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Host and target of a request, such as `example.org/events?page=2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(Arc<str>);

impl Key {
    pub(crate) fn new(host: &str, uri: &Uri) -> Self {
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut key = String::with_capacity(host.len() + target.len());
        key.extend(host.chars().map(|letter| letter.to_ascii_lowercase()));
        key.push_str(target);
        Self(key.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
