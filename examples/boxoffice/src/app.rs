//! The site: what it is made of.

use throng::{App, Ctx, Result};

use crate::{
    accounts::{self, Cost, Hasher},
    api,
    commands::{Import, Rehearse, Seed},
    demo,
    mail::{Post, PostBox},
    models::schema,
    pages,
    receivers::{Facets, Pages, Search},
    tasks::{Count, CountFacets, ForgetTries, MailTicket, RefundEvent, ReleaseSeats, Views},
};

/// The site; an empty one gets a demo at start, outside of production.
pub fn app() -> App {
    empty().on_start(demo::seed_when_empty)
}

/// The site without the demo, for tests that bring their own events.
pub fn empty() -> App {
    App::new("boxoffice")
        .about("An events site: tickets, comments, follows")
        .migrations(schema::MIGRATIONS)
        .routes(pages::routes())
        .routes(api::routes())
        .assets(&pages::ASSETS)
        .error_page(pages::error_page)
        .sign_in_path("/sign-in")
        .provide(pages::Streams::new(MOST_STREAMS))
        .on_start(check_mail)
        .provide(PostBox::default())
        .provide(Hasher::new(Cost::default()))
        .accounts(async |cx, user_id| Ok(accounts::password_of(&cx.db, &user_id).await?))
        .task::<MailTicket>()
        .task::<Count>()
        .task::<RefundEvent>()
        .task::<ReleaseSeats>()
        .task::<CountFacets>()
        .task::<ForgetTries>()
        .receiver::<Search>()
        .receiver::<Facets>()
        .receiver::<Pages>()
        .counter::<Views>()
        .schedule("* * * * *", || ReleaseSeats {})
        .schedule("*/15 * * * *", || CountFacets {})
        .schedule("7 * * * *", || ForgetTries {})
        .command::<Import>()
        .command::<Seed>()
        .command::<Rehearse>()
}

/// How many open pages one process keeps fresh; each costs a connection and a few kilobytes.
const MOST_STREAMS: usize = 10_000;

/// A wrong `mail.url` is told at start, not by the first ticket.
async fn check_mail(cx: Ctx) -> Result {
    Post::of(&cx).map(drop)
}
