//! The JSON API beside the pages: the same models, keyset paging, problems instead of error pages.
//!
//! Requests are authenticated by the same signed session cookie as pages. What changes something
//! has to be sent as `application/json`: no other site can make a browser send that here, so it
//! needs no CSRF token.

mod comments;
mod document;
mod events;
mod orders;
mod session;
mod shapes;

use std::time::Duration;

use throng::{
    Error, Result, Site,
    web::{Router, StatusCode, get, post},
};

use crate::{models::Problems, pages::Guest};

/// Every address of the API.
pub(crate) fn routes() -> Router<Site> {
    Router::new()
        .route("/api", get(document::page))
        .route("/api/openapi.json", get(document::json))
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/events/{id}", get(events::one))
        .route("/api/v1/events/{id}/comments", get(comments::list).post(comments::add))
        .route("/api/v1/events/{id}/holds", post(orders::hold))
        .route("/api/v1/holds/{id}", get(orders::held).delete(orders::release))
        .route("/api/v1/holds/{id}/order", post(orders::buy))
        .route("/api/v1/orders", get(orders::mine))
        .route("/api/v1/orders/{number}", get(orders::one))
        .route("/api/v1/search", get(events::search))
        .route("/api/v1/session", get(session::me).post(session::sign_in).delete(session::sign_out))
}

/// How many rows a page has: what was asked for, within reason.
fn limit(asked: Option<u64>) -> Result<u64> {
    match asked {
        None => Ok(25),
        Some(limit @ 1..=100) => Ok(limit),
        Some(_) => Err(Error::invalid("limit must be from 1 to 100")),
    }
}

/// A cursor out of a link this API gave.
fn cursor(text: Option<&str>) -> Result<Option<crate::models::Cursor>> {
    let invalid = |_| Error::invalid("after is not a cursor that this list gave");
    text.filter(|text| !text.is_empty()).map(str::parse).transpose().map_err(invalid)
}

/// An id out of an address: decimal digits.
fn id(text: &str) -> Result<i64> {
    text.parse().map_err(|_| Error::not_found("there is nothing with such an id"))
}

/// What was wrong with a body, as one problem.
fn invalid(problems: &Problems) -> Error {
    Error::invalid(problems.to_string())
}

/// Who is signed in; programs get 401 rather than a redirect.
fn member(guest: &Guest) -> Result<i64> {
    guest
        .user()
        .map(|user| user.id)
        .ok_or_else(|| Error::new(StatusCode::UNAUTHORIZED, "sign in first: POST /api/v1/session"))
}

/// How long to wait when the payment could not be reached.
const TRY_AGAIN: Duration = Duration::from_secs(5);
