//! The pages: what each address does, with forms, redirects and errors.

mod account;
mod checkout;
mod discussion;
mod door;
mod events;
mod follows;
mod front;
mod guest;
mod live;
mod moderation;
mod orders;
mod organise;
mod people;

use maud::Markup;
use throng::{
    Ctx, ErrorPage, Result, Site,
    web::{Asset, IntoResponse, Query, Redirect, Response, Router, get, header, post},
};

use crate::views::{
    about,
    layout::{Frame, Theme},
    oops,
};

pub(crate) use events::{changed, listed};
pub(crate) use front::changed as front_changed;
pub(crate) use guest::Guest;
pub(crate) use live::Streams;

/// Every page of the site.
pub(crate) fn routes() -> Router<Site> {
    Router::new()
        .route("/", get(front::front))
        .route("/events", get(events::browse))
        .route("/search", get(events::search))
        .route("/events/{id}", get(events::show))
        .route("/events/{id}/live", get(live::event))
        .route("/events/{id}/comments", post(discussion::add))
        .route("/events/{id}/hold", post(checkout::hold))
        .route("/comments/{id}/report", get(discussion::report_form).post(discussion::report))
        .route("/checkout/{id}", get(checkout::form).post(checkout::buy))
        .route("/checkout/{id}/release", post(checkout::release))
        .route("/orders/{number}", get(orders::show))
        .route("/orders/{number}/live", get(live::order))
        .route("/orders/{number}/ticket.pdf", get(orders::pdf))
        .route("/tickets", get(orders::mine))
        .route("/sign-up", get(account::sign_up_form).post(account::sign_up))
        .route("/sign-in", get(account::sign_in_form).post(account::sign_in))
        .route("/sign-out", post(account::sign_out))
        .route("/settings", get(account::settings_form).post(account::settings))
        .route("/people/{username}", get(people::person))
        .route("/people/{username}/follow", post(follows::follow_person))
        .route("/people/{username}/unfollow", post(follows::unfollow_person))
        .route("/organisers/{id}", get(people::organiser))
        .route("/organisers/{id}/follow", post(follows::follow_organiser))
        .route("/organisers/{id}/unfollow", post(follows::unfollow_organiser))
        .route("/timeline", get(people::timeline))
        .route("/organise", get(organise::desk))
        .route("/organise/events/new", get(organise::new_form).post(organise::create))
        .route("/organise/events/{id}", get(organise::edit_form).post(organise::edit))
        .route("/organise/events/{id}/cancel", post(organise::cancel))
        .route("/organise/events/{id}/delete", post(organise::delete))
        .route("/organise/events/{id}/orders", get(organise::orders))
        .route("/organise/events/{id}/door", get(door::form).post(door::check_in))
        .route("/moderation", get(moderation::queue))
        .route("/moderation/comments/{id}/{verb}", post(moderation::decide))
        .route("/about", get(about))
        .route("/theme", get(theme))
}

/// The files that pages refer to.
pub(crate) const ASSETS: [Asset; 4] = [
    Asset::new("site.css", include_bytes!("../assets/site.css")),
    Asset::new("site.js", include_bytes!("../assets/site.js")),
    Asset::new("icon.svg", include_bytes!("../assets/icon.svg")),
    Asset::new("robots.txt", include_bytes!("../assets/robots.txt")),
];

/// An error in the site's look. Whose it is is not known here, so the header greets nobody.
pub(crate) fn error_page(cx: &Ctx, page: &ErrorPage<'_>) -> String {
    let frame = Frame { files: guest::files(cx), is_bare: true, ..Frame::default() };
    frame.page(page.title, oops::oops(page.status.as_u16(), page.words, page.id)).into_string()
}

async fn about(guest: Guest) -> Result<Markup> {
    Ok(guest.frame()?.page("How it works", about::about()))
}

#[derive(serde::Deserialize)]
struct Colours {
    #[serde(default)]
    set: String,
    #[serde(default)]
    back: String,
}

/// Keeps the colours in a cookie; harmless, so a link may do it.
async fn theme(Query(colours): Query<Colours>) -> Response {
    let (name, max_age_s) = match Theme::named(&colours.set) {
        Theme::Auto => ("auto", 0),
        Theme::Light => ("light", YEAR_S),
        Theme::Dark => ("dark", YEAR_S),
    };
    let cookie = format!("theme={name};path=/;max-age={max_age_s};samesite=lax");
    ([(header::SET_COOKIE, cookie)], Redirect::to(guest::local(&colours.back))).into_response()
}

const YEAR_S: u32 = 365 * 24 * 60 * 60;
