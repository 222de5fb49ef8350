//! Signing in and out by program.

use throng::{
    Error, Result,
    web::{Json, StatusCode},
};

use super::shapes::{Credentials, Me, Problem};
use crate::{
    accounts::{self, Hasher, Refusal, SignIn},
    models::User,
    pages::Guest,
    views::talk,
};

/// Sign in
///
/// The answer sets the session cookie; send it with every later request.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "session", request_body = Credentials,
    responses(
        (status = 200, description = "Who is signed in", body = Me),
        (status = "4XX", description = "Not the right password, or too many tries", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn sign_in(guest: Guest, Json(typed): Json<Credentials>) -> Result<Json<Me>> {
    let cx = &guest.cx;
    let typed = SignIn { login: &typed.username, password: &typed.password, client: &guest.client };
    let hasher = cx.provided::<Hasher>()?;
    match accounts::sign_in(&cx.db, hasher, cx.clock.now_ms(), typed).await? {
        Ok(user) => {
            guest.who.sign_in(user.id, &user.password)?;
            Ok(Json(shape(&user)))
        }
        Err(refusal) => {
            let status = match refusal {
                Refusal::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
                Refusal::Wrong => StatusCode::UNAUTHORIZED,
            };
            Err(Error::new(status, refusal.to_string()))
        }
    }
}

/// Who am I?
#[utoipa::path(
    get, path = "/api/v1/session", tag = "session",
    security(("session" = [])),
    responses(
        (status = 200, description = "Who is signed in", body = Me),
        (status = "4XX", description = "Nobody is", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn me(guest: Guest) -> Result<Json<Me>> {
    super::member(&guest)?;
    Ok(Json(shape(guest.member()?)))
}

/// Sign out
///
/// Send `Content-Type: application/json` with it, although there is no body.
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "session",
    security(("session" = [])),
    responses(
        (status = 204, description = "Signed out"),
        (status = "4XX", description = "Sent from elsewhere", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn sign_out(guest: Guest) -> Result<StatusCode> {
    guest.who.sign_out()?;
    Ok(StatusCode::NO_CONTENT)
}

fn shape(user: &User) -> Me {
    Me { username: user.username.clone(), name: talk::name(user).to_owned() }
}
