//! Protection against forged posts, compatible with Django's: a secret in a cookie, a masked copy
//! of it in each form, and a look at where the request comes from.
//!
//! Every request that changes something (not GET, HEAD, OPTIONS, TRACE) passes two checks:
//!
//! 1. **Where from.** When the browser says so (`Origin`, else `Referer`), it must be this site or
//!    one of `web.trusted_origins`.
//! 2. **Token.** A request that a plain HTML form could have made (its content type is a form's,
//!    text, or missing) carries the token, in the field `csrfmiddlewaretoken` or the header
//!    `X-CSRFToken`, and it belongs to the secret in the cookie `csrftoken`. Content types that no
//!    form can send, such as JSON, need no token: a browser asks before it sends them across
//!    sites, and this site does not permit it. Neither do requests with an `Authorization` header
//!    and no cookies: nothing in them was added by a browser on its own.
//!
//! Paths given to `App::accept_from_anywhere` are not checked: webhooks, which sign their bodies.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri, header};
use throng_core::sign;

/// What is wrong with where a request comes from or with its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Origin,
    NoCookie,
    NoToken,
    WrongToken,
}

impl Refusal {
    /// Words for the visitor.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Origin => "this form was sent from another site",
            Self::NoCookie => {
                "this form needs a cookie that your browser did not send; please allow cookies, go \
                 back, reload the page and send it again"
            }
            Self::NoToken | Self::WrongToken => {
                "this form is out of date; please go back, reload the page and send it again"
            }
        }
    }
}

/// Whether requests of this method are checked.
pub(crate) fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Whether a request needs the token; see the module's second rule.
pub(crate) fn needs_token(headers: &HeaderMap) -> bool {
    if headers.contains_key(header::AUTHORIZATION) && !headers.contains_key(header::COOKIE) {
        return false;
    }
    let media = media_type(headers);
    media.is_empty()
        || ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]
            .iter()
            .any(|form| media.eq_ignore_ascii_case(form))
}

/// Checks where the request says that it comes from.
pub(crate) fn check_origin(
    headers: &HeaderMap,
    uri: &Uri,
    trusted: &[String],
) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
    let Some(origin) = text(header::ORIGIN).or_else(|| text(header::REFERER)) else {
        // Not a browser, or one that was told to be silent; the token decides alone.
        return Ok(());
    };
    let Some((scheme, rest)) = origin.split_once("://") else {
        return Err(Refusal::Origin);
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let own = text(header::HOST).or_else(|| uri.authority().map(|own| own.as_str()));
    let is_own = own.is_some_and(|own| own.eq_ignore_ascii_case(host));
    let is_trusted = || {
        trusted.iter().any(|trusted| {
            trusted.split_once("://").is_some_and(|(of, name)| {
                of.eq_ignore_ascii_case(scheme)
                    && name.trim_end_matches('/').eq_ignore_ascii_case(host)
            })
        })
    };
    if is_own || is_trusted() { Ok(()) } else { Err(Refusal::Origin) }
}

/// Checks a token against the secret of the cookie.
pub(crate) fn check_token(cookie: Option<&str>, token: Option<&str>) -> Result<(), Refusal> {
    let secret = cookie.and_then(secret_of).ok_or(Refusal::NoCookie)?;
    let token = token.filter(|token| !token.is_empty()).ok_or(Refusal::NoToken)?;
    let given = secret_of(token).ok_or(Refusal::WrongToken)?;
    if sign::is_same(secret.as_bytes(), given.as_bytes()) {
        Ok(())
    } else {
        Err(Refusal::WrongToken)
    }
}

/// The token in a form's body.
pub(crate) fn token_in<'b>(headers: &HeaderMap, body: &'b [u8]) -> Option<Cow<'b, str>> {
    let media = media_type(headers);
    if media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let mut pairs = form_urlencoded::parse(body);
        return pairs.find(|(name, _)| name == FIELD).map(|(_, value)| value);
    }
    if media.eq_ignore_ascii_case("multipart/form-data") {
        // The token is letters and digits, so that the part needs no parser: name, blank line, text.
        let name = format!("name=\"{FIELD}\"");
        let at = find(body, name.as_bytes())?;
        let rest = &body[at..];
        let text = &rest[find(rest, b"\r\n\r\n")? + 4..];
        let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(text.len());
        return std::str::from_utf8(&text[..end]).ok().map(Cow::Borrowed);
    }
    None
}

/// A new secret for the cookie.
pub(crate) fn new_secret() -> std::io::Result<String> {
    crate::config::random_text(SECRET_LETTERS)
}

/// The secret under a fresh mask, as it goes into forms: compression of the page then tells nothing
/// about the secret.
pub(crate) fn masked(secret: &str) -> std::io::Result<String> {
    let mask = crate::config::random_text(SECRET_LETTERS)?;
    let sum = |(a, b)| LETTERS[(letter(a) + letter(b)) % LETTERS.len()];
    let cipher: Vec<u8> = secret.bytes().zip(mask.bytes()).map(sum).collect();
    Ok(mask + &String::from_utf8_lossy(&cipher))
}

/// The secret in a cookie or token of ours or Django's: plain, or under a mask.
pub(crate) fn secret_of(token: &str) -> Option<String> {
    if !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    match token.len() {
        SECRET_LETTERS => Some(token.to_owned()),
        n if n == 2 * SECRET_LETTERS => {
            let (mask, cipher) = token.split_at(SECRET_LETTERS);
            let difference =
                |(c, m)| LETTERS[(letter(c) + LETTERS.len() - letter(m)) % LETTERS.len()];
            let secret = cipher.bytes().zip(mask.bytes()).map(difference).map(char::from);
            Some(secret.collect())
        }
        _ => None,
    }
}

fn letter(byte: u8) -> usize {
    let at = match byte {
        b'a'..=b'z' => byte - b'a',
        b'A'..=b'Z' => byte - b'A' + 26,
        _ => byte.wrapping_sub(b'0').min(9) + 52,
    };
    usize::from(at)
}

fn media_type(headers: &HeaderMap) -> &str {
    let full = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    full.unwrap_or("").split(';').next().unwrap_or("").trim()
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

/// The form field, named as Django's.
pub(crate) const FIELD: &str = "csrfmiddlewaretoken";
/// The cookie, named as Django's.
pub(crate) const COOKIE: &str = "csrftoken";
/// The header for scripts, named as Django's.
pub(crate) const HEADER: &str = "x-csrftoken";
/// A year, as Django's.
pub(crate) const COOKIE_MAX_AGE_S: u64 = 31_449_600;
const SECRET_LETTERS: usize = 32;
const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_secret_under_any_mask() {
        let secret = new_secret().unwrap();
        let (one, two) = (masked(&secret).unwrap(), masked(&secret).unwrap());
        assert_ne!(one, two);
        assert_eq!(secret_of(&one).as_deref(), Some(secret.as_str()));
        assert_eq!(check_token(Some(&secret), Some(&two)), Ok(()));
        assert_eq!(check_token(Some(&secret), Some(&secret)), Ok(()));
        let other = new_secret().unwrap();
        assert_eq!(check_token(Some(&other), Some(&two)), Err(Refusal::WrongToken));
        assert_eq!(check_token(None, Some(&two)), Err(Refusal::NoCookie));
    }

    #[test]
    fn djangos_masked_token_is_read() {
        // By hand: mask 'b' shifts each letter by one.
        let (mask, secret) = ("b".repeat(32), "Zz9a".repeat(8));
        let cipher = "0Aab".repeat(8);
        assert_eq!(secret_of(&format!("{mask}{cipher}")).as_deref(), Some(secret.as_str()));
    }

    #[test]
    fn only_this_site_and_trusted_ones_may_post() {
        let check = |origin: &str, trusted: &[String]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "tickets.example".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            check_origin(&headers, &Uri::from_static("/"), trusted).is_ok()
        };
        assert!(check("https://tickets.example", &[]));
        assert!(!check("https://tickets.example.evil", &[]));
        assert!(!check("null", &[]));
        assert!(!check("https://www.example", &[]));
        assert!(check("https://www.example", &["https://www.example".to_owned()]));
        assert!(!check("http://www.example", &["https://www.example".to_owned()]));
    }

    #[test]
    fn a_token_is_found_in_both_kinds_of_form() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        let body = b"seat=1&csrfmiddlewaretoken=abc";
        assert_eq!(token_in(&headers, body).as_deref(), Some("abc"));
        headers.insert(header::CONTENT_TYPE, "multipart/form-data; boundary=x".parse().unwrap());
        let body = b"--x\r\nContent-Disposition: form-data; name=\"csrfmiddlewaretoken\"\r\n\r\nabc\r\n--x--";
        assert_eq!(token_in(&headers, body).as_deref(), Some("abc"));
        assert_eq!(token_in(&headers, b"--x\r\nname=\"csrfmiddlewaretoken\""), None);
    }
}
