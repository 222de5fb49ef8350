//! What somebody has seen of the database, carried from request to request and into tasks, so that
//! no replica shows less. An embedded database has no replicas and nothing to carry.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use sea_orm::DbBackend;
use serde_json::Value;
use sha2::{Digest, Sha256};
use throng_core::sign::Signer;
use throng_db::{Db, Token};
use throng_queue::{Delivery, Message};

use super::{Ctx, Site};
use crate::{
    Result,
    web::cookies::{self, Cookie},
};

/// What a request brings along of what its visitor has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Brought {
    /// Nothing, or nothing that is ours.
    #[default]
    Nothing,
    /// His last request left this.
    Token(Token),
    /// It cannot be had now; the primary has it in any case.
    Unknown,
}

/// What the visitor brought: in his cookie, or, for a program that keeps no cookies and shows who it
/// is in each request, what the cache has kept for it.
pub(crate) async fn brought(site: &Site, headers: &HeaderMap) -> Brought {
    if is_embedded(&site.0.db) {
        return Brought::Nothing;
    }
    if let Some(token) = token(site, headers) {
        return Brought::Token(token);
    }
    let Some(key) = program(site, headers) else { return Brought::Nothing };
    match site.0.cache.get::<String>(&key).await {
        Ok(token) => {
            token.and_then(|token| token.parse().ok()).map_or(Brought::Nothing, Brought::Token)
        }
        Err(error) => {
            tracing::warn!(%error, "cannot tell what a program has seen; the primary answers it");
            Brought::Unknown
        }
    }
}

/// The database for one request of a visitor.
pub(crate) fn of_visitor(site: &Site, brought: Brought) -> Db {
    let db = &site.0.db;
    if is_embedded(db) {
        return db.clone();
    }
    match brought {
        Brought::Nothing => db.visitor(None),
        Brought::Token(token) => db.visitor([token]),
        Brought::Unknown => db.visitor(None).primary(),
    }
}

/// Leaves what the visitor has seen for his next request: gives the cookie to set, if there is
/// something new to carry, and keeps it for programs that keep no cookies.
pub(crate) async fn leave(
    site: &Site,
    db: &Db,
    headers: &HeaderMap,
    had: Brought,
) -> Option<HeaderValue> {
    let token = db.token().await.filter(|token| Brought::Token(*token) != had)?;
    if let Some(key) = program(site, headers) {
        let life = Duration::from_secs(MAX_AGE_S);
        if let Err(error) = site.0.cache.set(&key, &token.to_string(), life).await {
            tracing::warn!(%error, "cannot keep what a program has seen");
        }
    }
    let value = Signer::new(&site.0.keys).salt(COOKIE).sign(&token.to_string());
    let cookie = Cookie { name: COOKIE, value: &value, max_age_s: MAX_AGE_S, is_http_only: true };
    cookie.to_header(&site.0.config.session)
}

/// The token in the visitor's cookie; none when it is missing or not ours.
fn token(site: &Site, headers: &HeaderMap) -> Option<Token> {
    let text = cookies::find(headers, COOKIE)?;
    let signer = Signer::new(&site.0.keys).salt(COOKIE);
    signer.unsign(text).ok()?.parse().ok()
}

/// Where the cache keeps what a program has seen that says who it is by `Authorization`. Who can
/// read the cache learns no secret from it.
fn program(site: &Site, headers: &HeaderMap) -> Option<String> {
    let who = headers.get(header::AUTHORIZATION)?;
    let signed = Signer::new(&site.0.keys).salt(COOKIE).sign(&hex(&Sha256::digest(who)));
    Some(format!("{COOKIE}/{}", hex(&Sha256::digest(signed))))
}

/// Notes in the cache what a load of `key` must have seen from now on.
pub(crate) async fn raise(cx: &Ctx, key: &str) -> Result {
    if let Some(token) = cx.db.token().await {
        let life = Duration::from_secs(MAX_AGE_S);
        cx.site.0.cache.set(&floor(key), &token.to_string(), life).await?;
    }
    Ok(())
}

/// The database for a load of `key`: sees what this visitor has seen, and what was noted for it.
pub(crate) async fn of_load(cx: &Ctx, key: &str) -> Result<Db> {
    if is_embedded(&cx.db) {
        return Ok(cx.db.clone());
    }
    let noted: Option<String> = cx.site.0.cache.get(&floor(key)).await?;
    let noted = noted.and_then(|token| token.parse().ok());
    Ok(cx.site.0.db.visitor(cx.db.token().await.into_iter().chain(noted)))
}

fn floor(key: &str) -> String {
    format!("{COOKIE}/of/{key}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds to a message for the bus what its sender has seen. Only an object has room for it; whoever
/// does not know the field passes it over.
pub(crate) async fn seal(db: &Db, mut message: Value) -> Value {
    if let Value::Object(fields) = &mut message
        && let Some(token) = db.token().await
    {
        fields.insert(FIELD.to_owned(), token.to_string().into());
    }
    message
}

/// The database for whoever received a message: sees what its sender had seen. Where the message
/// does not say, the primary has it.
pub(crate) fn of_message(db: &Db, message: &[u8]) -> Db {
    if is_embedded(db) {
        return db.clone();
    }
    let token = serde_json::from_slice::<Value>(message)
        .ok()
        .and_then(|message| message.get(FIELD)?.as_str()?.parse::<Token>().ok());
    token.map_or_else(|| db.primary(), |token| db.visitor([token]))
}

/// A handle whose token covers everything that is committed by now.
pub(crate) async fn of_now(db: &Db) -> Db {
    if is_embedded(db) {
        return db.clone();
    }
    let now = db.visitor(None);
    // What the primary has answered, the token covers. When it does not, the token waits it out.
    let _ = now.primary().ping().await;
    now
}

/// Writes into `message` what whoever pushes it has seen.
pub(crate) async fn stamp(db: &Db, message: Message) -> Message {
    match db.token().await {
        Some(token) => message.header(HEADER, token.to_string()),
        None => message,
    }
}

/// The database for a task: sees what whoever pushed it had seen. One that was pushed in a
/// transaction carries nothing, since nobody can know yet where the commit will stand; it reads from
/// the primary.
pub(crate) fn of_task(db: &Db, delivery: &Delivery) -> Db {
    if is_embedded(db) {
        return db.clone();
    }
    let token = delivery.header(HEADER).and_then(|token| token.as_str()?.parse().ok());
    token.map_or_else(|| db.primary(), |token| db.visitor([token]))
}

pub(crate) fn is_embedded(db: &Db) -> bool {
    db.get_database_backend() == DbBackend::Sqlite
}

const COOKIE: &str = "throng_seen";
const HEADER: &str = "throng-seen";
const FIELD: &str = "throng_seen";
/// Replicas that are further behind than this are not used at all.
const MAX_AGE_S: u64 = 60;
