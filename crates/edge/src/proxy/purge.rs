//! Purges over HTTP: `PURGE /path`, a tag with `Surrogate-Key`, a pattern with `X-Ban`.

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use subtle::ConstantTimeEq;

use super::{Edge, pages};
use crate::Body;

impl Edge {
    /// Answers a purge; `None` for any other request.
    ///
    /// `PURGE /path` forgets one address. With `Surrogate-Key: a b` it forgets what carries one of
    /// these tags instead, with `X-Ban: pattern` what the pattern matches. `Soft-Purge: 1` or
    /// `Fastly-Soft-Purge: 1` makes it stale instead.
    pub(super) fn purge(
        &self,
        request: &Request<Body>,
        host: &str,
        id: &str,
    ) -> Option<Response<Body>> {
        if request.method().as_str() != "PURGE" {
            return None;
        }
        let headers = request.headers();
        if !self.may_purge(headers) {
            tracing::warn!(request.id = id, "refused a purge without the token");
            return Some(pages::text(
                StatusCode::FORBIDDEN,
                "403 a purge needs the token\n".into(),
            ));
        }
        let is_soft = [SOFT_PURGE, FASTLY_SOFT_PURGE]
            .iter()
            .any(|name| headers.get(name).is_some_and(|value| value == "1"));
        let texts = |name: HeaderName| {
            let values = headers.get_all(name).iter();
            values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect::<Vec<_>>()
        };
        let (tags, bans) = (texts(SURROGATE_KEY), texts(X_BAN));
        let tags: Vec<&str> = tags.iter().flat_map(|tags| tags.split_ascii_whitespace()).collect();
        let cache = self.cache();
        let said = if !tags.is_empty() {
            tags.iter().for_each(|tag| cache.purge_tag(tag, is_soft));
            format!("tags {}", tags.join(" "))
        } else if !bans.is_empty() {
            bans.iter().for_each(|ban| cache.ban(ban, is_soft));
            format!("pattern {}", bans.join(" "))
        } else {
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
            let variants = cache.purge(host, target, is_soft);
            format!("{host}{target}: {variants} stored")
        };
        self.inner.stats.purges.add(1);
        let how = if is_soft { "softly purged" } else { "purged" };
        tracing::info!(request.id = id, "{how} {said}");
        Some(pages::text(StatusCode::OK, format!("200 {how} {said}\n")))
    }

    fn may_purge(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.inner.config.purge_token else { return false };
        let said = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let said = said.and_then(|said| said.strip_prefix(b"Bearer "));
        said.is_some_and(|said| bool::from(said.ct_eq(token.reveal().as_bytes())))
    }
}

const SOFT_PURGE: HeaderName = HeaderName::from_static("soft-purge");
const FASTLY_SOFT_PURGE: HeaderName = HeaderName::from_static("fastly-soft-purge");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const X_BAN: HeaderName = HeaderName::from_static("x-ban");
