//! The discussion of an event.

use throng::{
    Result,
    web::{Json, Path, Query, StatusCode},
};

use super::{
    events::visible,
    shapes::{Comment, Comments, NewComment, Problem, Slice, next},
};
use crate::{
    live,
    models::{Stamp, comments as store, counters::Counted, users},
    pages::{Guest, changed},
    tags,
    tasks::Count,
};

/// Read a discussion
///
/// Newest first, in pages by id range.
#[utoipa::path(
    get, path = "/api/v1/events/{id}/comments", tag = "discussion",
    params(("id" = String, Path, description = "The event", pattern = "^[0-9]{1,18}$"), Slice),
    responses(
        (status = 200, description = "A page of comments", body = Comments),
        (status = "4XX", description = "No such event, or a parameter is not right", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    guest: Guest,
    Path(id): Path<String>,
    Query(slice): Query<Slice>,
) -> Result<Json<Comments>> {
    let db = &guest.cx.shows(&tags::event(super::id(&id)?)).await?.db;
    let event = visible(&guest, &id).await?;
    let after = super::cursor(slice.after.as_deref())?;
    let page = store::of_event(db, event.id, after.as_ref(), super::limit(slice.limit)?).await?;
    let next = next(&page);
    let authors = users::find_many(db, page.items.iter().map(|said| said.author_id)).await?;
    let shape = |comment: store::Model| {
        let author = authors.iter().find(|author| author.id == comment.author_id)?;
        Some(Comment::of(comment, author))
    };
    Ok(Json(Comments { items: page.items.into_iter().filter_map(shape).collect(), next }))
}

/// Say something
#[utoipa::path(
    post, path = "/api/v1/events/{id}/comments", tag = "discussion",
    params(("id" = String, Path, description = "The event", pattern = "^[0-9]{1,18}$")),
    request_body = NewComment,
    security(("session" = [])),
    responses(
        (status = 201, description = "The comment", body = Comment),
        (status = "4XX", description = "Not signed in, no such event, or the body is not right", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn add(
    guest: Guest,
    Path(id): Path<String>,
    Json(new): Json<NewComment>,
) -> Result<(StatusCode, Json<Comment>)> {
    let user_id = super::member(&guest)?;
    let event = visible(&guest, &id).await?;
    let cx = &guest.cx;
    let tx = cx.db.begin().await?;
    let added =
        store::add(&tx, Stamp::new(&cx.ids, &cx.clock), event.id, user_id, &new.body).await?;
    let comment = added.map_err(|problems| super::invalid(&problems))?;
    cx.queue.push_in(&tx, Count { counted: Counted::Comments(event.id) }).await?;
    tx.commit().await?;
    changed(cx, event.id).await;
    cx.purge(&tags::person(user_id)).await;
    let author = guest.member()?;
    live::comment_added(cx, &comment, author).await;
    Ok((StatusCode::CREATED, Json(Comment::of(comment, author))))
}
