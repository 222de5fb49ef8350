//! Who asks: the extractor that pages take to know, greet, sign in and sign out their visitor.

use std::{fmt, sync::Arc};

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use throng_core::sign::session::{auth_hash, is_auth_hash};

use super::{
    csrf,
    flash::{Level, Message},
    session::Memory,
};
use crate::{Error, Result, Site};

/// The visitor of this request: signed in or not, with a session of their own.
///
/// What it holds travels in a signed cookie that Django reads and writes too. Everything in it can
/// be read by the visitor, and nothing changed; keep ids in it rather than data, it must stay under
/// 4,000 bytes.
///
/// ```
/// use throng::{Ctx, Result, Visitor, web::Redirect};
///
/// async fn leave(who: Visitor) -> Result<Redirect> {
///     let user = who.require()?; // sends those who are not signed in to the sign-in page
///     who.sign_out()?;
///     who.say(throng::web::Level::Success, format!("Good-bye, number {user}"));
///     Ok(Redirect::to("/"))
/// }
/// ```
#[derive(Clone)]
pub struct Visitor {
    site: Site,
    memory: Arc<Memory>,
}

impl Visitor {
    /// The id of the signed-in user.
    #[must_use]
    pub fn user(&self) -> Option<i64> {
        self.memory.with_text(USER_ID, |id| id.parse().ok()).flatten()
    }

    /// The id of the signed-in user.
    ///
    /// # Errors
    /// [`Error::sign_in`] when nobody is signed in.
    pub fn require(&self) -> Result<i64> {
        self.user().ok_or_else(Error::sign_in)
    }

    /// Whether somebody is signed in.
    #[must_use]
    pub fn is_signed_in(&self) -> bool {
        self.user().is_some()
    }

    /// Signs `user` in. `stored_password` is the password as it is stored (hashed): where the site
    /// has `App::accounts`, changing it ends every session of the user.
    ///
    /// What an anonymous visitor has put into the session stays, what another user has does not.
    /// The CSRF secret changes, so that a form planted before cannot post after.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign_in(&self, user: i64, stored_password: &str) -> Result {
        if self.user().is_some_and(|other| other != user) {
            self.memory.clear()?;
        }
        self.memory.rotate_csrf()?;
        let hash = auth_hash(&self.site.0.keys, stored_password);
        let backend = self.site.0.config.session.auth_backend.clone();
        self.memory.change(|session| {
            session.insert(USER_ID.to_owned(), user.to_string().into());
            session.insert(USER_BACKEND.to_owned(), backend.into());
            session.insert(USER_HASH.to_owned(), hash.into());
        });
        Ok(())
    }

    /// Signs out and forgets everything about the visitor.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign_out(&self) -> Result {
        self.memory.clear()
    }

    /// What was kept under `key`; `None` when nothing was, or something of another type.
    #[must_use]
    pub fn recall<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.memory.value(key).and_then(|value| serde_json::from_value(value).ok())
    }

    /// Keeps `value` under `key` for the requests to come.
    ///
    /// # Errors
    /// When `value` is not JSON.
    pub fn remember(&self, key: &str, value: impl Serialize) -> Result {
        let value = serde_json::to_value(value)?;
        self.memory.change(|session| {
            session.insert(key.to_owned(), value);
        });
        Ok(())
    }

    /// Forgets what was kept under `key`.
    pub fn forget(&self, key: &str) {
        if self.memory.value(key).is_some() {
            self.memory.change(|session| {
                session.remove(key);
            });
        }
    }

    /// Says something on the next page that the visitor sees; see [`Visitor::messages`].
    pub fn say(&self, level: Level, text: impl Into<String>) {
        let mut messages = self.kept_messages();
        messages.push(Message { level, text: text.into() });
        let excess = messages.len().saturating_sub(MAX_MESSAGES);
        messages.drain(..excess);
        let kept = Value::String(Message::to_django(&messages));
        self.memory.change(|session| {
            session.insert(MESSAGES.to_owned(), kept);
        });
    }

    /// What there is to say to the visitor; taken, so that it is said once.
    #[must_use = "messages that are taken and not shown are lost"]
    pub fn messages(&self) -> Vec<Message> {
        let messages = self.kept_messages();
        self.forget(MESSAGES);
        messages
    }

    /// The CSRF token for this page's forms and scripts.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn csrf_token(&self) -> Result<String> {
        Ok(csrf::masked(&self.memory.csrf_secret()?)?)
    }

    /// The CSRF token as the hidden field that every posting form has.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn csrf_field(&self) -> Result<String> {
        let token = self.csrf_token()?;
        Ok(format!("<input type=\"hidden\" name=\"{}\" value=\"{token}\">", csrf::FIELD))
    }

    fn kept_messages(&self) -> Vec<Message> {
        self.memory.with_text(MESSAGES, Message::from_django).unwrap_or_default()
    }

    /// Whether the session still belongs to the user's password.
    async fn check_account(&self) -> Result {
        let Some(accounts) = &self.site.0.accounts else {
            return Ok(());
        };
        let Some(user) = self.memory.with_text(USER_ID, str::to_owned) else {
            return Ok(());
        };
        let stored = accounts(self.memory.ctx(&self.site), user).await?;
        let is_good = stored.is_some_and(|stored| {
            let keys = &self.site.0.keys;
            self.memory.with_text(USER_HASH, |hash| is_auth_hash(keys, &stored, hash)) == Some(true)
        });
        if is_good { Ok(()) } else { self.memory.clear() }
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing about the person: this ends up in logs.
        f.write_str("Visitor")
    }
}

impl FromRequestParts<Site> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self> {
        let memory = parts.extensions.get::<Arc<Memory>>().cloned();
        let memory = memory.ok_or_else(|| Error::internal("a visitor outside a throng site"))?;
        let visitor = Self { site: site.clone(), memory };
        if visitor.memory.read(site, &parts.headers) {
            visitor.check_account().await?;
        }
        Ok(visitor)
    }
}

/// Named as Django's, which reads them.
const USER_ID: &str = "_auth_user_id";
const USER_BACKEND: &str = "_auth_user_backend";
const USER_HASH: &str = "_auth_user_hash";
const MESSAGES: &str = "_messages";
/// A cookie holds little; the oldest go first.
const MAX_MESSAGES: usize = 8;
