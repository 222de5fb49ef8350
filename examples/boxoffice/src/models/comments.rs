//! The discussion of an event: comments, read by id range.

use sea_orm::{IntoActiveModel, entity::prelude::*};
use serde::Serialize;

use super::{Cursor, Page, Problems, Stamp, rows};

/// A comment, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "comments")]
pub struct Model {
    /// Time-ordered id: the order of the discussion.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The event that is discussed.
    pub event_id: i64,
    /// Who wrote it.
    pub author_id: i64,
    /// Plain text; it is the page's duty to escape it.
    pub body: String,
    /// Whether a moderator has hidden it.
    pub is_hidden: bool,
    /// When it was written, in milliseconds since 1970 UTC.
    pub created_at_ms: i64,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The comment `id`, hidden or not.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// The comments `ids`, hidden or not, in no order.
pub async fn find_many(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = i64>,
) -> Result<Vec<Model>, DbErr> {
    rows::named::<Entity>(db, Column::Id, ids).await
}

/// One page of an event's discussion, latest first, without what moderators hid.
pub async fn of_event(
    db: &impl ConnectionTrait,
    event_id: i64,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Model>, DbErr> {
    page(db, Column::EventId.eq(event_id), after, limit).await
}

/// One page of what a person wrote, latest first, without what moderators hid.
pub async fn of_author(
    db: &impl ConnectionTrait,
    author_id: i64,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Model>, DbErr> {
    page(db, Column::AuthorId.eq(author_id), after, limit).await
}

async fn page(
    db: &impl ConnectionTrait,
    whose: sea_orm::sea_query::SimpleExpr,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Model>, DbErr> {
    let select = Entity::find().filter(whose).filter(Column::IsHidden.eq(false));
    rows::latest(db, select, Column::Id, |comment| comment.id, after, limit).await
}

/// Adds a comment. The caller counts it (`tasks::Count`) and tells the event's watchers.
pub async fn add(
    db: &impl ConnectionTrait,
    stamp: Stamp,
    event_id: i64,
    author_id: i64,
    body: &str,
) -> Result<Result<Model, Problems>, DbErr> {
    let body = body.trim().replace("\r\n", "\n");
    let mut problems = Problems::default();
    if body.is_empty() {
        problems.add("body", "write something first");
    }
    if body.chars().count() > MAX_CHARS {
        problems.add("body", format!("is longer than {MAX_CHARS} characters"));
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let comment = Model {
        id: stamp.id,
        event_id,
        author_id,
        body,
        is_hidden: false,
        created_at_ms: stamp.at_ms,
    };
    Entity::insert(comment.clone().into_active_model()).exec_without_returning(db).await?;
    Ok(Ok(comment))
}

/// Hides a comment from everyone, or shows it again; `false` when it was so already.
pub async fn set_hidden(
    db: &impl ConnectionTrait,
    id: i64,
    is_hidden: bool,
) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::IsHidden, Expr::value(is_hidden))
        .filter(Column::Id.eq(id))
        .filter(Column::IsHidden.eq(!is_hidden));
    Ok(update.exec(db).await?.rows_affected == 1)
}

/// The longest comment.
pub const MAX_CHARS: usize = 4_000;
