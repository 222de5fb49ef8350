//! Django's sessions in a signed cookie, and the hash that ties a session to a password.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Keys, SignError, dumps, is_same, loads, salted_hmac};

/// The session as the value of the session cookie, as
/// `django.contrib.sessions.backends.signed_cookies` writes it.
///
/// # Errors
/// [`SignError::Payload`] when the session is far over what a cookie can hold.
pub fn encode(keys: &Keys, session: &Map<String, Value>, now_s: i64) -> Result<String, SignError> {
    dumps(keys, SALT, session, true, now_s)
}

/// Reads the session cookie; `max_age` is Django's `SESSION_COOKIE_AGE` (two weeks by default).
///
/// # Errors
/// [`SignError`]. Treat each as "no session": strangers send these texts.
pub fn decode(
    keys: &Keys,
    cookie: &str,
    max_age: Option<Duration>,
    now_s: i64,
) -> Result<Map<String, Value>, SignError> {
    loads(keys, SALT, cookie, max_age, now_s)
}

/// Django's `get_session_auth_hash`, kept in a session under `_auth_user_hash`: it stops matching
/// when the stored password changes, which signs the person out everywhere.
#[must_use]
pub fn auth_hash(keys: &Keys, stored_password: &str) -> String {
    hex(&salted_hmac(AUTH_SALT, stored_password.as_bytes(), &keys.current))
}

/// Whether `hash` is the [`auth_hash`] of `stored_password` under one of the keys.
#[must_use]
pub fn is_auth_hash(keys: &Keys, stored_password: &str, hash: &str) -> bool {
    let made_by = |key| hex(&salted_hmac(AUTH_SALT, stored_password.as_bytes(), key));
    keys.all().any(|key| is_same(made_by(key).as_bytes(), hash.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const SALT: &str = "django.contrib.sessions.backends.signed_cookies";
const AUTH_SALT: &str = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_700_000_000;

    #[test]
    fn a_session_is_djangos_cookie() {
        let keys = Keys::new("throng-test-secret");
        let cookie = "eyJ1IjoxfQ:1r31eq:iKCeD5Oegi48r0kqZhX_abM-qZSSziqP4OG0BlsmTTQ";
        let session = decode(&keys, cookie, None, NOW_S).unwrap();
        assert_eq!(Value::Object(session.clone()), serde_json::json!({"u": 1}));
        assert_eq!(encode(&keys, &session, NOW_S).unwrap(), cookie);
    }

    #[test]
    fn an_auth_hash_outlives_a_key_change_and_not_a_password_change() {
        let (old, new) = (Keys::new("old"), Keys::new("new").fallback("old"));
        let hash = auth_hash(&old, "pbkdf2_sha256$1$a$b");
        assert!(is_auth_hash(&new, "pbkdf2_sha256$1$a$b", &hash));
        assert!(!is_auth_hash(&new, "pbkdf2_sha256$1$a$c", &hash));
        assert!(!is_auth_hash(&Keys::new("new"), "pbkdf2_sha256$1$a$b", &hash));
    }
}
