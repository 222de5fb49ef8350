//! Comments and reports of them.

use maud::Markup;
use serde::Deserialize;
use throng::{
    Error, Result,
    web::{Form, Path, Response},
};

use super::{Guest, events, guest::again};
use crate::{
    live,
    models::{Comment, Problems, Stamp, User, comments, counters::Counted, reports, users},
    tags,
    tasks::Count,
    views::talk,
};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Said {
    body: String,
}

pub(super) async fn add(
    guest: Guest,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<Response> {
    let user = guest.member()?;
    events::visible(&guest, id).await?;
    let cx = &guest.cx;
    let tx = cx.db.begin().await?;
    match comments::add(&tx, Stamp::new(&cx.ids, &cx.clock), id, user.id, &said.body).await? {
        Err(problems) => {
            let page = events::page(&guest, id, None, &said.body, &problems).await?;
            Ok(again(page))
        }
        Ok(comment) => {
            cx.queue.push_in(&tx, Count { counted: Counted::Comments(id) }).await?;
            tx.commit().await?;
            events::changed(cx, id).await;
            cx.purge(&tags::person(user.id)).await;
            live::comment_added(cx, &comment, user).await;
            Ok(guest.told(&format!("/events/{id}#comment-{}", comment.id), "Posted."))
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Complaint {
    reason: String,
}

pub(super) async fn report_form(guest: Guest, Path(id): Path<i64>) -> Result<Markup> {
    guest.member()?;
    let (comment, author) = subject(&guest, id).await?;
    report_page(&guest, &comment, &author, &Problems::default(), "")
}

pub(super) async fn report(
    guest: Guest,
    Path(id): Path<i64>,
    Form(complaint): Form<Complaint>,
) -> Result<Response> {
    let user = guest.member()?;
    let (comment, author) = subject(&guest, id).await?;
    let mut problems = Problems::default();
    if complaint.reason.trim().is_empty() {
        problems.add("reason", "say in a few words what is wrong");
        let page = report_page(&guest, &comment, &author, &problems, &complaint.reason)?;
        return Ok(again(page));
    }
    let stamp = Stamp::new(&guest.cx.ids, &guest.cx.clock);
    let is_new = reports::add(&guest.cx.db, stamp, id, user.id, &complaint.reason).await?;
    let words = match is_new {
        true => "Thank you. A moderator will look at it.",
        false => "You reported this comment before; it is in the queue.",
    };
    Ok(guest.told(&format!("/events/{}#talk", comment.event_id), words))
}

fn report_page(
    guest: &Guest,
    comment: &Comment,
    author: &User,
    problems: &Problems,
    typed: &str,
) -> Result<Markup> {
    let frame = guest.frame()?;
    let body = talk::report(&frame, comment, author, problems, typed);
    Ok(frame.page("Report a comment", body))
}

/// A comment that everyone sees, with its author.
async fn subject(guest: &Guest, id: i64) -> Result<(Comment, User)> {
    let missing = || Error::not_found("there is no such comment");
    let comment = comments::find(&guest.cx.db, id).await?.filter(|comment| !comment.is_hidden);
    let comment = comment.ok_or_else(missing)?;
    events::visible(guest, comment.event_id).await?;
    let author = users::find(&guest.cx.db, comment.author_id).await?.ok_or_else(missing)?;
    Ok((comment, author))
}
