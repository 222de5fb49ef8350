//! `dumps` and `loads`: a value as signed, dated, optionally compressed text safe for a URL.

use std::{io::Read, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::{Compression, bufread::ZlibDecoder, bufread::ZlibEncoder};
use serde::{Serialize, de::DeserializeOwned};

use super::{Keys, SignError, TimestampSigner, base64url, json};

/// The salt of Django's `signing.dumps` where none is given.
pub const DEFAULT_SALT: &str = "django.core.signing";

/// The most that a payload may unpack to.
///
/// A payload is unpacked only under a good signature; the bound keeps a leaked key, or a page that
/// signs what visitors send, from becoming a way to fill memory.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Django's `signing.dumps`: `value` as JSON, compressed where that is at least two bytes shorter
/// and `compress` is on, then signed under `salt` with the time.
///
/// # Errors
/// [`SignError::Payload`] when `value` is not JSON (its keys are not text) or is over
/// [`MAX_PAYLOAD_BYTES`].
pub fn dumps<T: Serialize>(
    keys: &Keys,
    salt: &str,
    value: &T,
    compress: bool,
    now_s: i64,
) -> Result<String, SignError> {
    let unwritable = |reason: String| SignError::Payload { doing: "write", reason };
    let plain = json::to_vec(value).map_err(|error| unwritable(error.to_string()))?;
    if plain.len() > MAX_PAYLOAD_BYTES {
        return Err(unwritable(format!("it is over {MAX_PAYLOAD_BYTES} bytes")));
    }
    let packed = compress.then(|| deflate(&plain)).filter(|packed| packed.len() + 1 < plain.len());
    let payload = match packed {
        Some(packed) => format!(".{}", base64url(&packed)),
        None => base64url(&plain),
    };
    Ok(TimestampSigner::new(keys).salt(salt).sign(&payload, now_s))
}

/// Django's `signing.loads`: reads what [`dumps`], or Django's, wrote under the same `salt` at most
/// `max_age` ago; `None` sets no limit.
///
/// # Errors
/// [`SignError`], of which [`SignError::Payload`] means that the signature is good and the payload
/// is not a `T`.
pub fn loads<T: DeserializeOwned>(
    keys: &Keys,
    salt: &str,
    text: &str,
    max_age: Option<Duration>,
    now_s: i64,
) -> Result<T, SignError> {
    let signed = TimestampSigner::new(keys).salt(salt).unsign(text, max_age, now_s)?.value;
    let (payload, is_packed) =
        signed.strip_prefix('.').map_or((signed, false), |payload| (payload, true));
    let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(SignError::unreadable)?;
    let json = if is_packed { inflate(&bytes)? } else { bytes };
    if json.is_ascii() {
        return serde_json::from_slice(&json).map_err(SignError::unreadable);
    }
    // Python decodes payloads as Latin-1, where each byte is the character of its number.
    let text: String = json.into_iter().map(char::from).collect();
    serde_json::from_str(&text).map_err(SignError::unreadable)
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    ZlibEncoder::new(plain, Compression::default())
        .read_to_end(&mut packed)
        .expect("compressing from memory to memory cannot fail");
    packed
}

fn inflate(packed: &[u8]) -> Result<Vec<u8>, SignError> {
    let mut plain = Vec::new();
    let limit = MAX_PAYLOAD_BYTES + 1;
    ZlibDecoder::new(packed)
        .take(limit as u64)
        .read_to_end(&mut plain)
        .map_err(SignError::unreadable)?;
    if plain.len() == limit {
        let reason = format!("it unpacks to over {MAX_PAYLOAD_BYTES} bytes");
        return Err(SignError::unreadable(reason));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW_S: i64 = 1_700_000_000;

    fn keys() -> Keys {
        Keys::new("throng-test-secret")
    }

    fn read(text: &str) -> Result<Value, SignError> {
        loads(&keys(), DEFAULT_SALT, text, None, NOW_S)
    }

    #[test]
    fn payloads_are_djangos() {
        let value = json!({"a": 1, "b": "é", "l": [1, 2]});
        let text = "eyJhIjoxLCJiIjoiXHUwMGU5IiwibCI6WzEsMl19:1r31eq:\
                    JAmPku-geuSFFhcXTG8to-tATMicATYm-Biz0Qfcq6M";
        assert_eq!(dumps(&keys(), DEFAULT_SALT, &value, false, NOW_S).unwrap(), text);
        assert_eq!(read(text).unwrap(), value);
    }

    #[test]
    fn only_what_gets_shorter_is_compressed() {
        let long = json!({"words": "again ".repeat(50)});
        let text = dumps(&keys(), DEFAULT_SALT, &long, true, NOW_S).unwrap();
        assert!(text.starts_with('.') && text.len() < 120, "{text}");
        assert_eq!(read(&text).unwrap(), long);
        let short = dumps(&keys(), DEFAULT_SALT, &json!({"u": 1}), true, NOW_S).unwrap();
        assert!(short.starts_with("eyJ1Ijox"), "{short}");
    }

    #[test]
    fn a_signed_bomb_is_refused() {
        let bomb = format!(".{}", base64url(&deflate(&vec![b' '; 2 * MAX_PAYLOAD_BYTES])));
        let keys = keys();
        let text = TimestampSigner::new(&keys).salt(DEFAULT_SALT).sign(&bomb, NOW_S);
        let refusal = read(&text).unwrap_err().to_string();
        assert!(refusal.contains("unpacks to over 1048576 bytes"), "{refusal}");
    }

    #[test]
    fn a_payload_of_another_shape_is_unreadable_and_not_forged() {
        let text = dumps(&keys(), "s", &"text", false, NOW_S).unwrap();
        let wrong = loads::<u32>(&keys(), "s", &text, None, NOW_S);
        assert!(matches!(wrong, Err(SignError::Payload { doing: "read", .. })));
    }

    proptest! {
        #[test]
        fn any_value_comes_back(text: String, number: f64, list: Vec<i64>, compress: bool) {
            let value = json!({ "t": text, "n": number, "l": list });
            let signed = dumps(&keys(), DEFAULT_SALT, &value, compress, NOW_S).unwrap();
            prop_assert_eq!(read(&signed).unwrap(), value);
        }

        #[test]
        fn any_signed_payload_is_read_or_refused_without_panic(payload: String, bytes: Vec<u8>) {
            let keys = keys();
            let signer = TimestampSigner::new(&keys).salt(DEFAULT_SALT);
            let encoded = base64url(&bytes);
            for payload in [payload.as_str(), &encoded, &format!(".{encoded}")] {
                let _ = read(&signer.sign(payload, NOW_S));
            }
        }
    }
}
