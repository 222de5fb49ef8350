//! What pages look like: from models to HTML, without a request or a database in sight.

pub(crate) mod about;
pub(crate) mod account;
pub(crate) mod art;
pub(crate) mod browse;
pub(crate) mod cards;
pub(crate) mod checkout;
pub(crate) mod event;
pub(crate) mod forms;
pub(crate) mod front;
pub(crate) mod icons;
pub(crate) mod layout;
pub(crate) mod moderation;
pub(crate) mod oops;
pub(crate) mod organise;
pub(crate) mod people;
pub(crate) mod reference;
pub(crate) mod talk;
pub(crate) mod words;

use std::fmt::Write;

/// Text as a part of an address: everything but letters, digits and `-._~/` as `%XX`.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// The same text with its first letter as a capital.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next();
    first.into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// A message of the house as a sentence: capital first, full stop last.
pub(crate) fn sentence(words: &str) -> String {
    let mut text = capital(words.trim_end_matches('.'));
    text.push('.');
    text
}
