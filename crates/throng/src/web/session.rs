//! What is remembered of a visitor between requests: Django's session in a signed cookie, read when
//! somebody asks for it and written when it changed.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};
use throng_core::sign::session;
use throng_db::Db;

use super::{cookies, cookies::Cookie, csrf};
use crate::{
    Ctx, Result, Site,
    ctx::{seen, seen::Brought},
};

/// Finds the stored password (or another text that changes with it) of a user id; `None` when there
/// is no such user any more.
pub(crate) type Accounts = dyn Fn(Ctx, String) -> Pin<Box<dyn Future<Output = Result<Option<String>>> + Send>>
    + Send
    + Sync;

/// One visitor's session and CSRF secret during one request. Shared by the extractors of the
/// request and by what writes the cookies on its way out.
pub(crate) struct Memory {
    state: Mutex<State>,
    /// One handle for the whole request, which learns what the visitor sees.
    db: OnceLock<Db>,
    /// What the visitor had seen before.
    brought: Brought,
}

#[derive(Default)]
struct State {
    session: Option<Map<String, Value>>,
    is_changed: bool,
    had_cookie: bool,
    csrf: Csrf,
    /// Whether the page got a token, which is for this visitor alone.
    is_csrf_shown: bool,
    /// What the page shows, as page caches are told.
    tags: Vec<String>,
}

#[derive(Default)]
enum Csrf {
    #[default]
    Unread,
    Kept(String),
    New(String),
}

impl Memory {
    pub(crate) fn new(brought: Brought) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), db: OnceLock::new(), brought })
    }

    /// A context for this request.
    pub(crate) fn ctx(&self, site: &Site) -> Ctx {
        site.ctx_with(self.db.get_or_init(|| seen::of_visitor(site, self.brought)).clone())
    }

    /// The database that the request worked with, if it asked for one.
    pub(crate) fn db(&self) -> Option<&Db> {
        self.db.get()
    }

    /// Reads the session from the request, once; whether this call did. A cookie that is forged, cut, too old or too large
    /// is no session; strangers send those, so nothing is logged.
    pub(crate) fn read(&self, site: &Site, headers: &HeaderMap) -> bool {
        let mut state = self.lock();
        if state.session.is_some() {
            return false;
        }
        let config = &site.0.config.session;
        let text = cookies::find(headers, &config.cookie);
        state.had_cookie = text.is_some();
        let max_age = Some(Duration::from_secs(config.max_age_s));
        let now_s = site.0.clock.now_s();
        let session = text
            .filter(|text| text.len() <= MAX_COOKIE_BYTES)
            .and_then(|text| session::decode(&site.0.keys, text, max_age, now_s).ok());
        state.session = Some(session.unwrap_or_default());
        if let Some(secret) = cookies::find(headers, csrf::COOKIE).and_then(csrf::secret_of) {
            state.csrf = Csrf::Kept(secret);
        }
        true
    }

    pub(crate) fn value(&self, key: &str) -> Option<Value> {
        self.lock().session.as_ref().and_then(|session| session.get(key).cloned())
    }

    /// The text under `key`, looked at without copying.
    pub(crate) fn with_text<T>(&self, key: &str, look: impl FnOnce(&str) -> T) -> Option<T> {
        let state = self.lock();
        state.session.as_ref()?.get(key)?.as_str().map(look)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Map<String, Value>)) {
        let mut state = self.lock();
        change(state.session.get_or_insert_default());
        state.is_changed = true;
    }

    /// Forgets everything: session and CSRF secret.
    pub(crate) fn clear(&self) -> Result {
        let secret = csrf::new_secret()?;
        let mut state = self.lock();
        state.session = Some(Map::new());
        state.is_changed = true;
        state.csrf = Csrf::New(secret);
        Ok(())
    }

    /// A new CSRF secret, so that one from before signing in is worth nothing after.
    pub(crate) fn rotate_csrf(&self) -> Result {
        let secret = csrf::new_secret()?;
        self.lock().csrf = Csrf::New(secret);
        Ok(())
    }

    /// The CSRF secret; made, and set as a cookie, when the visitor has none.
    pub(crate) fn csrf_secret(&self) -> Result<String> {
        let mut state = self.lock();
        state.is_csrf_shown = true;
        if let Csrf::Kept(secret) | Csrf::New(secret) = &state.csrf {
            return Ok(secret.clone());
        }
        let secret = csrf::new_secret()?;
        state.csrf = Csrf::New(secret.clone());
        Ok(secret)
    }

    /// Notes that the page shows what `tag` stands for.
    pub(crate) fn tag(&self, tag: String) {
        let mut state = self.lock();
        if !state.tags.contains(&tag) {
            state.tags.push(tag);
        }
    }

    /// Whether the page is nobody's own: the visitor brought no session, was given none, and got no
    /// token.
    pub(crate) fn is_public(&self) -> bool {
        self.lock().is_public()
    }

    /// Tells page caches what the page shows, so that a change of it purges the page.
    pub(crate) fn write_tags(&self, headers: &mut HeaderMap) {
        let state = self.lock();
        // Tags are of letters that a header takes.
        if !state.tags.is_empty()
            && let Ok(tags) = HeaderValue::try_from(state.tags.join(" "))
        {
            headers.insert(SURROGATE_KEY, tags);
        }
    }

    /// Writes what changed as `Set-Cookie`, and tells caches whether this answer is one visitor's.
    pub(crate) fn write(&self, site: &Site, headers: &mut HeaderMap) {
        let state = self.lock();
        if state.session.is_none() && matches!(state.csrf, Csrf::Unread) {
            return;
        }
        let config = &site.0.config.session;
        headers.append(header::VARY, HeaderValue::from_static("cookie"));
        if !state.is_public() && !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        let mut set = |cookie: Cookie<'_>| {
            if let Some(line) = cookie.to_header(config) {
                headers.append(header::SET_COOKIE, line);
            }
        };
        if let Csrf::New(secret) = &state.csrf {
            let (name, max_age_s) = (csrf::COOKIE, csrf::COOKIE_MAX_AGE_S);
            set(Cookie { name, value: secret, max_age_s, is_http_only: true });
        }
        let Some(session) = state.session.as_ref().filter(|_| state.is_changed) else {
            return;
        };
        let name = config.cookie.as_str();
        if session.is_empty() {
            if state.had_cookie {
                set(Cookie { name, value: "", max_age_s: 0, is_http_only: true });
            }
            return;
        }
        let value = session::encode(&site.0.keys, session, site.0.clock.now_s());
        match value {
            Ok(value) if value.len() <= MAX_COOKIE_BYTES => {
                set(Cookie {
                    name,
                    value: &value,
                    max_age_s: config.max_age_s,
                    is_http_only: true,
                });
            }
            Ok(value) => {
                let session_bytes = value.len();
                tracing::error!(
                    session_bytes,
                    "a session of {session_bytes} bytes is over what a cookie holds; its change is lost"
                );
            }
            Err(error) => tracing::error!(%error, "cannot write a session: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_public(&self) -> bool {
        let has_new_token = matches!(self.csrf, Csrf::New(_));
        !self.had_cookie && !self.is_changed && !self.is_csrf_shown && !has_new_token
    }
}

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// What browsers take as one cookie, name and flags aside.
const MAX_COOKIE_BYTES: usize = 4_000;
