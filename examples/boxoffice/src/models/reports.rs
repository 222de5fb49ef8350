//! What visitors reported to the moderators.

use sea_orm::IntoActiveModel;
use sea_orm::{
    QueryOrder, QuerySelect, TryInsertResult, entity::prelude::*, sea_query::OnConflict,
};
use serde::Serialize;

use super::{Cursor, Page, Stamp, comments};

/// A report, as stored. A person reports a comment once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "reports")]
pub struct Model {
    /// Time-ordered id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The comment that was reported.
    pub comment_id: i64,
    /// Who reported it.
    pub reporter_id: i64,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// Whether a moderator has dealt with it.
    pub is_settled: bool,
    /// When, in milliseconds since 1970 UTC.
    pub created_at_ms: i64,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Reports a comment; `false` when this person had reported it before.
pub async fn add(
    db: &impl ConnectionTrait,
    stamp: Stamp,
    comment_id: i64,
    reporter_id: i64,
    reason: &str,
) -> Result<bool, DbErr> {
    let report = Model {
        id: stamp.id,
        comment_id,
        reporter_id,
        reason: reason.trim().chars().take(500).collect(),
        is_settled: false,
        created_at_ms: stamp.at_ms,
    };
    let once = OnConflict::columns([Column::CommentId, Column::ReporterId])
        .do_nothing_on([Column::Id])
        .to_owned();
    let insert = Entity::insert(report.into_active_model()).on_conflict(once).try_insert();
    Ok(matches!(insert.exec_without_returning(db).await?, TryInsertResult::Inserted(1..)))
}

/// One page of what moderators have not settled yet, oldest first.
pub async fn open(
    db: &impl ConnectionTrait,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<(Model, comments::Model)>, DbErr> {
    let mut select = Entity::find().filter(Column::IsSettled.eq(false));
    if let Some(cursor) = after {
        select = select.filter(Column::Id.gt(cursor.id));
    }
    let rows = select.order_by_asc(Column::Id).limit(limit.saturating_add(1)).all(db).await?;
    let page = Page::cut(rows, limit, |report| Cursor::id(report.id));
    let found = comments::find_many(db, page.items.iter().map(|report| report.comment_id)).await?;
    let next = page.next;
    let attach = |report: Model| {
        let comment = found.iter().find(|comment| comment.id == report.comment_id)?;
        Some((report, comment.clone()))
    };
    Ok(Page { items: page.items.into_iter().filter_map(attach).collect(), next })
}

/// Settles every open report of a comment, hiding it or leaving it. Call it in a transaction.
pub async fn settle(tx: &impl ConnectionTrait, comment_id: i64, hide: bool) -> Result<(), DbErr> {
    comments::set_hidden(tx, comment_id, hide).await?;
    let update = Entity::update_many()
        .col_expr(Column::IsSettled, Expr::value(true))
        .filter(Column::CommentId.eq(comment_id));
    update.exec(tx).await.map(drop)
}
