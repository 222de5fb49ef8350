//! What somebody has seen of the database, carried from request to request and into tasks, so that
//! no replica shows less. An embedded database has no replicas and nothing to carry.

use http::{HeaderMap, HeaderValue};
use sea_orm::DbBackend;
use throng_core::sign::Signer;
use throng_db::{Db, Token};
use throng_queue::{Delivery, Message};

use super::Site;
use crate::web::cookies::{self, Cookie};

/// The database for one request of a visitor.
pub(crate) fn of_visitor(site: &Site, headers: &HeaderMap) -> Db {
    let db = &site.0.db;
    if is_embedded(db) {
        return db.clone();
    }
    db.visitor(token(site, headers))
}

/// The cookie for the visitor's next request, when there is something new to carry.
pub(crate) async fn cookie(site: &Site, db: &Db, had: Option<Token>) -> Option<HeaderValue> {
    let token = db.token().await.filter(|token| Some(*token) != had)?;
    let value = Signer::new(&site.0.keys).salt(COOKIE).sign(&token.to_string());
    let cookie = Cookie { name: COOKIE, value: &value, max_age_s: MAX_AGE_S, is_http_only: true };
    cookie.to_header(&site.0.config.session)
}

/// The token that the visitor brought; none when it is missing or not ours.
pub(crate) fn token(site: &Site, headers: &HeaderMap) -> Option<Token> {
    let text = cookies::find(headers, COOKIE)?;
    let signer = Signer::new(&site.0.keys).salt(COOKIE);
    signer.unsign(text).ok()?.parse().ok()
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
    token.map_or_else(|| db.primary(), |token| db.visitor(Some(token)))
}

pub(crate) fn is_embedded(db: &Db) -> bool {
    db.get_database_backend() == DbBackend::Sqlite
}

const COOKIE: &str = "throng_seen";
const HEADER: &str = "throng-seen";
/// Replicas that are further behind than this are not used at all.
const MAX_AGE_S: u64 = 60;
