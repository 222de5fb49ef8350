//! The seats of an event: one row each, changed only by updates that keep
//! `sold + held <= capacity`, whoever else writes at the same moment.

use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::ExprTrait};
use serde::Serialize;

/// The seats of one event, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "seats")]
pub struct Model {
    /// The event.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: i64,
    /// How many there are.
    pub capacity: i32,
    /// How many are sold.
    pub sold: i32,
    /// How many are in somebody's hands: the sum of the rows in `holds`.
    pub held: i32,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// How many can be held now.
    #[must_use]
    pub fn free(&self) -> i32 {
        Ord::max(self.capacity - self.sold - self.held, 0)
    }
}

/// The seats of `event_id`.
pub async fn of(db: &impl ConnectionTrait, event_id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(event_id).one(db).await
}

/// The seats of several events, in no order: to show what is left on a list.
pub async fn of_many(
    db: &impl ConnectionTrait,
    event_ids: impl IntoIterator<Item = i64>,
) -> Result<Vec<Model>, DbErr> {
    let ids: Vec<i64> = event_ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Entity::find().filter(Column::EventId.is_in(ids)).all(db).await
}

/// Takes the seats of an event away, if none is sold or held.
pub(crate) async fn close(tx: &impl ConnectionTrait, event_id: i64) -> Result<bool, DbErr> {
    let free = Entity::delete_many()
        .filter(Column::EventId.eq(event_id))
        .filter(Column::Sold.eq(0))
        .filter(Column::Held.eq(0));
    Ok(free.exec(tx).await?.rows_affected == 1)
}

/// Gives a new event its seats.
pub(crate) async fn open(
    tx: &impl ConnectionTrait,
    event_id: i64,
    capacity: i32,
) -> Result<(), DbErr> {
    let seats = ActiveModel {
        event_id: Set(event_id),
        capacity: Set(capacity),
        sold: Set(0),
        held: Set(0),
    };
    Entity::insert(seats).exec_without_returning(tx).await.map(drop)
}

/// Changes the capacity unless more seats are taken; then says how many are.
pub(crate) async fn resize(
    tx: &impl ConnectionTrait,
    event_id: i64,
    capacity: i32,
) -> Result<Result<(), i32>, DbErr> {
    let Some(now) = of(tx, event_id).await? else {
        open(tx, event_id, capacity).await?;
        return Ok(Ok(()));
    };
    if now.capacity == capacity {
        return Ok(Ok(()));
    }
    let taken = Expr::col(Column::Sold).add(Expr::col(Column::Held));
    let update = Entity::update_many()
        .col_expr(Column::Capacity, Expr::value(capacity))
        .filter(Column::EventId.eq(event_id))
        .filter(taken.lte(capacity));
    if update.exec(tx).await?.rows_affected == 1 {
        return Ok(Ok(()));
    }
    Ok(Err(now.sold + now.held))
}

/// Takes `quantity` free seats into a hold; `false` when so many are not free.
pub(crate) async fn take(
    tx: &impl ConnectionTrait,
    event_id: i64,
    quantity: i32,
) -> Result<bool, DbErr> {
    let taken = Expr::col(Column::Sold).add(Expr::col(Column::Held)).add(quantity);
    let update = Entity::update_many()
        .col_expr(Column::Held, Expr::col(Column::Held).add(quantity))
        .filter(Column::EventId.eq(event_id))
        .filter(taken.lte(Expr::col(Column::Capacity)));
    Ok(update.exec(tx).await?.rows_affected == 1)
}

/// Gives held seats back. The caller has deleted the hold in the same transaction.
pub(crate) async fn give_back(
    tx: &impl ConnectionTrait,
    event_id: i64,
    quantity: i32,
) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Held, Expr::col(Column::Held).sub(quantity))
        .filter(Column::EventId.eq(event_id));
    update.exec(tx).await.map(drop)
}

/// Turns held seats into sold ones. The caller has deleted the hold in the same transaction.
pub(crate) async fn sell(
    tx: &impl ConnectionTrait,
    event_id: i64,
    quantity: i32,
) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Held, Expr::col(Column::Held).sub(quantity))
        .col_expr(Column::Sold, Expr::col(Column::Sold).add(quantity))
        .filter(Column::EventId.eq(event_id));
    update.exec(tx).await.map(drop)
}
