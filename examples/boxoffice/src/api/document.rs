//! The OpenAPI document, and a page to read it.

use std::sync::LazyLock;

use maud::Markup;
use throng::{
    Result,
    web::{IntoResponse, Response, header},
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, SecurityScheme},
};

use super::{comments, events, orders, session, shapes};
use crate::{pages::Guest, views::reference};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "boxoffice",
        version = "1",
        description = "Events, their discussions and their tickets. Lists are read by key range: pass `next` of one page as `after` of the next. Errors are `application/problem+json`. Send everything that changes something with `Content-Type: application/json`; then it needs no CSRF token.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "events", description = "What is on"),
        (name = "discussion", description = "What people say about it"),
        (name = "buying", description = "Seats, first held and then bought"),
        (name = "session", description = "Who you are")
    ),
    paths(
        events::list, events::one, events::search,
        comments::list, comments::add,
        orders::hold, orders::held, orders::release, orders::buy, orders::mine, orders::one,
        session::sign_in, session::me, session::sign_out
    ),
    components(schemas(shapes::Problem)),
    modifiers(&Session)
)]
struct Api;

/// Says how requests are authenticated.
struct Session;

impl Modify for Session {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let cookie = ApiKeyValue::with_description(
            "sessionid",
            "The session cookie that `POST /api/v1/session` and the sign-in page set.",
        );
        let scheme = SecurityScheme::ApiKey(ApiKey::Cookie(cookie));
        document.components.get_or_insert_default().add_security_scheme("session", scheme);
    }
}

/// The document as a value, made once.
static DOCUMENT: LazyLock<serde_json::Value> =
    LazyLock::new(|| serde_json::to_value(Api::openapi()).unwrap_or_default());

pub(super) async fn json() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, DOCUMENT.to_string()).into_response()
}

pub(super) async fn page(guest: Guest) -> Result<Markup> {
    Ok(guest.frame()?.page("API", reference::reference(&DOCUMENT)))
}
