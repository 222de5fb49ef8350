//! Tickets: one for each seat of an order, good once at the door.

use sea_orm::{QueryOrder, entity::prelude::*};
use serde::Serialize;

use super::rows;

/// A ticket, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "tickets")]
pub struct Model {
    /// Time-ordered id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The order it belongs to.
    pub order_id: i64,
    /// The event it opens.
    pub event_id: i64,
    /// Its place in the order, from 1.
    pub place: i32,
    /// When it was used at the door, if it was.
    pub used_at_ms: Option<i64>,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The ticket `id`.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// The tickets of an order, first place first.
pub async fn of_order(db: &impl ConnectionTrait, order_id: i64) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::OrderId.eq(order_id)).order_by_asc(Column::Place).all(db).await
}

/// The tickets of several orders, in no order.
pub async fn of_orders(
    db: &impl ConnectionTrait,
    order_ids: impl IntoIterator<Item = i64>,
) -> Result<Vec<Model>, DbErr> {
    rows::named::<Entity>(db, Column::OrderId, order_ids).await
}

/// Marks a ticket used; `false` when it was used before. Only one of two scanners gets `true`.
pub async fn mark_used(db: &impl ConnectionTrait, id: i64, at_ms: i64) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::UsedAtMs, Expr::value(at_ms))
        .filter(Column::Id.eq(id))
        .filter(Column::UsedAtMs.is_null());
    Ok(update.exec(db).await?.rows_affected == 1)
}
