//! `Signer` and `TimestampSigner`: text with a signature behind it.

use std::{borrow::Cow, time::Duration};

use super::{Keys, SignError, base62, base64url, is_same, salted_hmac};

/// Django's `Signer`: `value:signature`.
#[derive(Clone, Debug)]
pub struct Signer<'k> {
    keys: &'k Keys,
    salt: Cow<'k, str>,
}

/// Django's `TimestampSigner`: `value:time:signature`.
#[derive(Clone, Debug)]
pub struct TimestampSigner<'k> {
    signer: Signer<'k>,
}

/// What a [`TimestampSigner`] signed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped<'t> {
    /// The text that was signed.
    pub value: &'t str,
    /// When it was signed, in seconds since 1970 UTC.
    pub signed_at_s: i64,
}

impl<'k> Signer<'k> {
    /// Signs under Django's default salt, `django.core.signing.Signer`.
    #[must_use]
    pub fn new(keys: &'k Keys) -> Self {
        Self { keys, salt: Cow::Borrowed("django.core.signing.Signer") }
    }

    /// Signs under `salt`, which keeps what is signed for one purpose from serving another.
    #[must_use]
    pub fn salt(mut self, salt: impl Into<Cow<'k, str>>) -> Self {
        self.salt = salt.into();
        self
    }

    /// Puts the signature behind `value`, with the current key.
    #[must_use]
    pub fn sign(&self, value: &str) -> String {
        let signature = self.signature(value, &self.keys.current);
        format!("{value}{SEPARATOR}{signature}")
    }

    /// The value in front of a signature that one of the keys made.
    ///
    /// # Errors
    /// [`SignError::Unsigned`] or [`SignError::Forged`].
    pub fn unsign<'t>(&self, text: &'t str) -> Result<&'t str, SignError> {
        let (value, signature) = text.rsplit_once(SEPARATOR).ok_or(SignError::Unsigned)?;
        let is_ours = |key| is_same(self.signature(value, key).as_bytes(), signature.as_bytes());
        if self.keys.all().any(is_ours) { Ok(value) } else { Err(SignError::Forged) }
    }

    fn signature(&self, value: &str, key: &crate::Secret) -> String {
        base64url(&salted_hmac(&format!("{}signer", self.salt), value.as_bytes(), key))
    }
}

impl<'k> TimestampSigner<'k> {
    /// Signs under Django's default salt, `django.core.signing.TimestampSigner`.
    #[must_use]
    pub fn new(keys: &'k Keys) -> Self {
        Self { signer: Signer::new(keys).salt("django.core.signing.TimestampSigner") }
    }

    /// Signs under `salt`; see [`Signer::salt`].
    #[must_use]
    pub fn salt(mut self, salt: impl Into<Cow<'k, str>>) -> Self {
        self.signer = self.signer.salt(salt);
        self
    }

    /// Puts the time and the signature behind `value`.
    #[must_use]
    pub fn sign(&self, value: &str, now_s: i64) -> String {
        self.signer.sign(&format!("{value}{SEPARATOR}{}", base62::encode(now_s)))
    }

    /// The value in front of a good signature that is at most `max_age` old; `None` sets no limit.
    ///
    /// Ages count in whole seconds. As in Django, a time that is yet to come is not too old.
    ///
    /// # Errors
    /// [`SignError`], of which [`SignError::Expired`] alone means that the signature is good.
    pub fn unsign<'t>(
        &self,
        text: &'t str,
        max_age: Option<Duration>,
        now_s: i64,
    ) -> Result<Stamped<'t>, SignError> {
        let signed = self.signer.unsign(text)?;
        let (value, time) = signed.rsplit_once(SEPARATOR).ok_or(SignError::Unsigned)?;
        let signed_at_s = base62::decode(time)
            .ok_or_else(|| SignError::unreadable("its time is not a number in base 62"))?;
        let age_s = now_s.saturating_sub(signed_at_s);
        match max_age.map(|limit| limit.as_secs()) {
            Some(max_age_s) if u64::try_from(age_s).is_ok_and(|age_s| age_s > max_age_s) => {
                Err(SignError::Expired { age_s, max_age_s })
            }
            _ => Ok(Stamped { value, signed_at_s }),
        }
    }
}

const SEPARATOR: char = ':';

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_S: i64 = 1_700_000_000;

    fn keys() -> Keys {
        Keys::new("throng-test-secret")
    }

    #[test]
    fn signatures_are_djangos() {
        let keys = keys();
        let signer = Signer::new(&keys);
        assert_eq!(signer.sign("hello"), "hello:5493J5Cd3O6AKI_Z8moINkQPG3e-b3G4NXBAD8ZQfgI");
        let salted = signer.salt("s");
        assert_eq!(salted.sign("hello"), "hello:2dSHlILZhnrAvGq8xrViyxpwCvCKvFqmTZzxzTS6nIQ");
        let stamped = "hello:1r31eq:qdOt6j-uNAfXD0HixtgSVV0Vw-Raw9GPU_Fk_XNQs8M";
        let signer = TimestampSigner::new(&keys);
        assert_eq!(signer.sign("hello", NOW_S), stamped);
        let read = signer.unsign(stamped, None, NOW_S).unwrap();
        assert_eq!(read, Stamped { value: "hello", signed_at_s: NOW_S });
    }

    #[test]
    fn a_signature_counts_for_its_salt_and_its_keys_alone() {
        let (old, new) = (Keys::new("old"), Keys::new("new").fallback("older").fallback("old"));
        let signed = Signer::new(&old).sign("x:y");
        assert_eq!(Signer::new(&new).unsign(&signed).unwrap(), "x:y");
        assert_ne!(Signer::new(&new).sign("x:y"), signed);
        let forged = |signer: Signer<'_>, text: &str| {
            assert!(matches!(signer.unsign(text), Err(SignError::Forged)), "{text}");
        };
        forged(Signer::new(&old), &Signer::new(&new).sign("x:y"));
        forged(Signer::new(&new).salt("other"), &signed);
        forged(Signer::new(&new), &format!("a{signed}"));
        assert!(matches!(Signer::new(&new).unsign("plain"), Err(SignError::Unsigned)));
    }

    #[test]
    fn an_old_signature_expires_and_a_future_one_does_not() {
        let keys = keys();
        let signer = TimestampSigner::new(&keys);
        let signed = signer.sign("v", NOW_S);
        let limit = Some(Duration::from_secs(10));
        assert!(signer.unsign(&signed, limit, NOW_S + 10).is_ok());
        assert!(signer.unsign(&signed, limit, NOW_S - 500).is_ok());
        let late = signer.unsign(&signed, limit, NOW_S + 11);
        assert!(matches!(late, Err(SignError::Expired { age_s: 11, max_age_s: 10 })));
    }

    proptest! {
        #[test]
        fn what_is_signed_comes_back_and_a_changed_byte_does_not(value: String, at: usize, by in 1u8..128) {
            let keys = keys();
            let signer = Signer::new(&keys);
            let signed = signer.sign(&value);
            prop_assert_eq!(signer.unsign(&signed).unwrap(), &value);
            let mut changed = signed.into_bytes();
            let at = at % changed.len();
            changed[at] ^= by;
            if let Ok(changed) = String::from_utf8(changed) {
                prop_assert!(signer.unsign(&changed).is_err());
            }
        }

        #[test]
        fn any_text_is_refused_without_panic(text: String, now_s: i64) {
            let keys = keys();
            let limit = Some(Duration::from_secs(1));
            prop_assert!(TimestampSigner::new(&keys).unsign(&text, limit, now_s).is_err());
        }
    }
}
