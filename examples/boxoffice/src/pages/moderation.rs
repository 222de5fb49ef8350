//! What moderators see and decide.

use maud::Markup;
use serde::Deserialize;
use throng::{
    Error, Result,
    web::{Path, Query, Response},
};

use super::{Guest, events};
use crate::{
    live,
    models::{Cursor, comments, counters::Counted, events as store, reports, users},
    tags,
    tasks::Count,
    views::moderation::{self as view, Case},
};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Asked {
    after: String,
}

pub(super) async fn queue(guest: Guest, Query(asked): Query<Asked>) -> Result<Markup> {
    guest.moderator()?;
    let db = &guest.cx.db;
    let after: Option<Cursor> = events::parse(&asked.after)?;
    let page = reports::open(db, after.as_ref(), CASES).await?;
    let next = page.next.map(|next| format!("/moderation?after={next}"));
    let people = page.items.iter().flat_map(|(report, said)| [report.reporter_id, said.author_id]);
    let people = users::find_many(db, people).await?;
    let about = store::find_many(db, page.items.iter().map(|(_, said)| said.event_id)).await?;
    let person = |id: i64| people.iter().find(|user| user.id == id).cloned();
    let case = |(report, comment): (reports::Model, comments::Model)| Case {
        author: person(comment.author_id),
        reporter: person(report.reporter_id),
        event: about.iter().find(|event| event.id == comment.event_id).cloned(),
        report,
        comment,
    };
    let cases: Vec<Case> = page.items.into_iter().map(case).collect();
    let frame = guest.frame()?;
    let body = view::queue(&frame, &cases, next.as_deref(), after.is_none());
    Ok(frame.page("Moderation", body))
}

pub(super) async fn decide(
    guest: Guest,
    Path((id, verb)): Path<(i64, String)>,
) -> Result<Response> {
    guest.moderator()?;
    let cx = &guest.cx;
    let missing = || Error::not_found("there is no such comment");
    let comment = comments::find(&cx.db, id).await?.ok_or_else(missing)?;
    let (hide, words) = match verb.as_str() {
        "hide" => (true, "Hidden. Nobody sees it any more."),
        "restore" => (false, "Everyone sees it again."),
        "dismiss" => (comment.is_hidden, "Left as it is."),
        _ => return Err(Error::not_found("there is no such decision")),
    };
    let tx = cx.db.begin().await?;
    reports::settle(&tx, id, hide).await?;
    cx.queue.push_in(&tx, Count { counted: Counted::Comments(comment.event_id) }).await?;
    tx.commit().await?;
    events::changed(cx, comment.event_id).await;
    cx.purge(&tags::person(comment.author_id)).await;
    if hide {
        live::comment_hidden(cx, &comment).await;
    }
    Ok(guest.told("/moderation", words))
}

const CASES: u64 = 25;
