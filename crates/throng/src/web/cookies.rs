//! Reads the `Cookie` header and writes `Set-Cookie` lines.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, header};

use crate::config::Session;

/// The value of the first cookie called `name`. Anything that is not a cookie is skipped.
pub(crate) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.trim_matches('"'))
}

/// A cookie to set; `max_age_s` 0 deletes it.
pub(crate) struct Cookie<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
    pub(crate) max_age_s: u64,
    pub(crate) is_http_only: bool,
}

impl Cookie<'_> {
    /// The `Set-Cookie` line; `None` when name or value hold what no header can.
    pub(crate) fn to_header(&self, config: &Session) -> Option<HeaderValue> {
        let mut line = format!("{}={}; Path=/; Max-Age={}", self.name, self.value, self.max_age_s);
        if self.max_age_s == 0 {
            line.push_str("; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        }
        if let Some(domain) = &config.domain {
            let _ = write!(line, "; Domain={domain}");
        }
        let _ = write!(line, "; SameSite={}", config.same_site);
        if self.is_http_only {
            line.push_str("; HttpOnly");
        }
        if config.is_secure {
            line.push_str("; Secure");
        }
        HeaderValue::try_from(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_rubbish() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a; =; b=1;sessionid=x:y:z; b=2"));
        headers.append(header::COOKIE, HeaderValue::from_bytes(b"bad=\xff").unwrap());
        headers.append(header::COOKIE, HeaderValue::from_static("csrftoken=\"q\""));
        assert_eq!(find(&headers, "sessionid"), Some("x:y:z"));
        assert_eq!(find(&headers, "b"), Some("1"));
        assert_eq!(find(&headers, "csrftoken"), Some("q"));
        assert_eq!(find(&headers, "bad"), None);
    }
}
