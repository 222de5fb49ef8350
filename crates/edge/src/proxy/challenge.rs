//! Answers to an authority that wants to see that a name is ours (RFC 8555 8.3).

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

/// What is answered to which token.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    answers: RwLock<HashMap<String, String>>,
}

impl Challenges {
    pub(crate) fn set(&self, token: &str, answer: String) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.insert(token.to_owned(), answer);
    }

    pub(crate) fn forget(&self, token: &str) {
        self.answers.write().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    /// The answer to a request for `path`, if that is what it is about. Other programs behind the
    /// edge may have orders of their own.
    pub(super) fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix("/.well-known/acme-challenge/")?;
        self.answers.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}
