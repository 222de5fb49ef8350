//! Holds: seats in somebody's hands while they pay. A row is a claim on seats that is alive; when
//! it ends, in whichever way, the row is deleted in the transaction that moves the seats.

use sea_orm::{Condition, QueryOrder, QuerySelect, entity::prelude::*};
use serde::Serialize;

/// A hold, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "holds")]
pub struct Model {
    /// Time-ordered id, and the key under which a payment is made at most once.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The event.
    pub event_id: i64,
    /// Who holds.
    #[serde(skip)]
    pub user_id: i64,
    /// How many seats.
    pub quantity: i32,
    /// When the seats go back, in milliseconds since 1970 UTC.
    pub expires_at_ms: i64,
    /// Whether a payment was begun: then the seats go back only when it is known to have failed.
    pub is_paying: bool,
    /// The name on the tickets, once a payment was begun.
    #[serde(skip)]
    pub attendee: String,
    /// Where the tickets go, once a payment was begun.
    #[serde(skip)]
    pub email: String,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Whether the seats may be given to somebody else.
    #[must_use]
    pub fn is_expired(&self, now_ms: i64) -> bool {
        !self.is_paying && self.expires_at_ms <= now_ms
    }
}

/// The hold `id`, if it still lives.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// What `user_id` holds, of all events, latest first.
pub async fn of_user(db: &impl ConnectionTrait, user_id: i64) -> Result<Vec<Model>, DbErr> {
    Entity::find()
        .filter(Column::UserId.eq(user_id))
        .order_by_desc(Column::Id)
        .limit(100)
        .all(db)
        .await
}

/// Holds that ended without a payment, of one event or of all, the oldest first.
pub(crate) async fn expired(
    db: &impl ConnectionTrait,
    event_id: Option<i64>,
    now_ms: i64,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut select = Entity::find().filter(Column::ExpiresAtMs.lte(now_ms));
    if let Some(event_id) = event_id {
        select = select.filter(Column::EventId.eq(event_id));
    }
    let select = select.filter(Column::IsPaying.eq(false)).order_by_asc(Column::ExpiresAtMs);
    select.limit(limit).all(db).await
}

/// Holds whose payment was begun and never heard of again, the oldest first.
pub(crate) async fn abandoned(
    db: &impl ConnectionTrait,
    now_ms: i64,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    Entity::find()
        .filter(Column::ExpiresAtMs.lte(now_ms))
        .filter(Column::IsPaying.eq(true))
        .order_by_asc(Column::ExpiresAtMs)
        .limit(limit)
        .all(db)
        .await
}

/// Ends a hold; `false` when somebody else has ended it. Who gets `true` moves its seats.
pub(crate) async fn end(tx: &impl ConnectionTrait, id: i64) -> Result<bool, DbErr> {
    Ok(Entity::delete_by_id(id).exec(tx).await?.rows_affected == 1)
}

/// Ends a hold unless it is being paid; `false` when it is, or when somebody else has ended it.
pub(crate) async fn end_unpaid(tx: &impl ConnectionTrait, id: i64) -> Result<bool, DbErr> {
    let delete = Entity::delete_many().filter(Column::Id.eq(id)).filter(Column::IsPaying.eq(false));
    Ok(delete.exec(tx).await?.rows_affected == 1)
}

/// Notes that a payment begins and keeps the seats until `until_ms`; `false` when the hold has
/// ended.
pub(crate) async fn begin_paying(
    db: &impl ConnectionTrait,
    hold: &Model,
    now_ms: i64,
    until_ms: i64,
) -> Result<bool, DbErr> {
    let alive = Condition::any().add(Column::IsPaying.eq(true)).add(Column::ExpiresAtMs.gt(now_ms));
    let update = Entity::update_many()
        .col_expr(Column::IsPaying, Expr::value(true))
        .col_expr(Column::ExpiresAtMs, Expr::value(until_ms))
        .col_expr(Column::Attendee, Expr::value(&*hold.attendee))
        .col_expr(Column::Email, Expr::value(&*hold.email))
        .filter(Column::Id.eq(hold.id))
        .filter(alive);
    Ok(update.exec(db).await?.rows_affected == 1)
}
