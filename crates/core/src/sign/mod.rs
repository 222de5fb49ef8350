//! Signing as Django does it, so that a Django site and this one read each other's cookies.
//!
//! A signature is `base64url(HMAC-SHA256(SHA256(salt + "signer" + secret), value))` after a `:`.
//! What Django signs, this reads, and the reverse, with the same secret and salt.
//!
//! ```
//! use throng_core::sign::{self, Keys};
//!
//! let keys = Keys::new("throng-test-secret").fallback("the secret before it");
//! let token = sign::dumps(&keys, "invitation", &("ada", 7), true, 1_700_000_000)?;
//! let day = Some(std::time::Duration::from_secs(86_400));
//! let (name, seats): (String, u32) =
//!     sign::loads(&keys, "invitation", &token, day, 1_700_000_060)?;
//! assert_eq!((name.as_str(), seats), ("ada", 7));
//! # Ok::<(), sign::SignError>(())
//! ```
//!
//! **What is promised.** Signatures, timestamps and payloads are Django's byte for byte: ASCII JSON
//! without spaces, characters beyond ASCII as `\u` pairs, floats as Python prints them. Two things
//! are not bytes but meaning: the order of a map's keys is the order in which its `Serialize` gives
//! them, and a compressed payload is another zlib stream that unpacks to the same text (so a
//! payload at the very edge of being worth compressing may be compressed on one side only).
//! Numbers that are not finite become `null`, where Python writes `NaN`, which is not JSON.

mod base62;
mod json;
mod object;
pub mod session;
mod signer;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Secret;

pub use object::{DEFAULT_SALT, MAX_PAYLOAD_BYTES, dumps, loads};
pub use signer::{Signer, Stamped, TimestampSigner};

/// The secrets: one that signs, and older ones whose signatures still count.
///
/// Put the new secret first and the old one behind it, as `SECRET_KEY_FALLBACKS` does; take the old
/// one away when everything signed with it has expired.
#[derive(Clone, Debug)]
pub struct Keys {
    current: Secret,
    fallbacks: Vec<Secret>,
}

/// Why a signed text is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// There is no signature in the text.
    #[error("the text holds no signature")]
    Unsigned,
    /// No key that counts made the signature: the text was changed, or signed for something else.
    #[error("the signature does not match")]
    Forged,
    /// The signature is good and too old.
    #[error("signed {age_s} s ago, which is over the limit of {max_age_s} s")]
    Expired {
        /// How long ago it was signed.
        age_s: i64,
        /// The limit that was asked for.
        max_age_s: u64,
    },
    /// The signature is good, and what it signs cannot be read, or cannot be written.
    #[error("cannot {doing} the signed payload: {reason}")]
    Payload {
        /// `read` or `write`.
        doing: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Keys {
    /// Signs with `secret`, which is Django's `SECRET_KEY`. It must be long, random and not empty.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self { current: Secret::new(secret), fallbacks: Vec::new() }
    }

    /// Accepts signatures of `old` too, after all keys that are accepted already.
    #[must_use]
    pub fn fallback(mut self, old: impl Into<String>) -> Self {
        self.fallbacks.push(Secret::new(old));
        self
    }

    /// The current secret, then the older ones.
    fn all(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.current).chain(&self.fallbacks)
    }
}

impl SignError {
    fn unreadable(reason: impl ToString) -> Self {
        Self::Payload { doing: "read", reason: reason.to_string() }
    }
}

/// Compares in a time that tells nothing about where the texts differ.
#[must_use]
pub fn is_same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// Django's `salted_hmac` with SHA-256.
fn salted_hmac(key_salt: &str, value: &[u8], secret: &Secret) -> [u8; 32] {
    let mut key = Sha256::new();
    key.update(key_salt.as_bytes());
    key.update(secret.reveal().as_bytes());
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key.finalize()).expect("HMAC takes a key of any length");
    mac.update(value);
    mac.finalize().into_bytes().into()
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
