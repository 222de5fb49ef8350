//! Orders: what was bought, by whom, under a number that people can read aloud.

use sea_orm::entity::prelude::*;
use serde::Serialize;

use super::{Cursor, Page, rows};

/// An order, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "orders")]
pub struct Model {
    /// Time-ordered id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// What people read aloud, such as `BX-7K3M9-QTD4X`.
    pub number: String,
    /// The event.
    pub event_id: i64,
    /// Who bought.
    #[serde(skip)]
    pub user_id: i64,
    /// The hold it was bought from: a hold is bought once.
    #[serde(skip)]
    pub hold_id: i64,
    /// How many tickets.
    pub quantity: i32,
    /// What was paid, in the currency's smallest unit.
    pub amount_cents: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// The name on the tickets.
    pub attendee: String,
    /// Where the tickets are mailed.
    pub email: String,
    /// The payment provider's reference; empty when free.
    #[serde(skip)]
    pub payment: String,
    /// Paid or refunded.
    pub status: Status,
    /// When it was bought, in milliseconds since 1970 UTC.
    pub created_at_ms: i64,
    /// When the tickets left by mail, if they have.
    pub mailed_at_ms: Option<i64>,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Paid: its tickets are good.
    Paid = 1,
    /// The event was cancelled and the money went back.
    Refunded = 2,
}

/// The order `id`.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// The order with this number, typed in any case and with or without dashes.
pub async fn find_by_number(
    db: &impl ConnectionTrait,
    number: &str,
) -> Result<Option<Model>, DbErr> {
    let Some(number) = crate::purchase::number::normal(number) else { return Ok(None) };
    Entity::find().filter(Column::Number.eq(number)).one(db).await
}

/// The order that came out of a hold, if it was bought.
pub async fn of_hold(db: &impl ConnectionTrait, hold_id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::HoldId.eq(hold_id)).one(db).await
}

/// One page of what a person bought, latest first.
pub async fn of_user(
    db: &impl ConnectionTrait,
    user_id: i64,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Model>, DbErr> {
    page(db, Column::UserId.eq(user_id), after, limit).await
}

/// One page of an event's orders, latest first: the organiser's list of attendees.
pub async fn of_event(
    db: &impl ConnectionTrait,
    event_id: i64,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Model>, DbErr> {
    page(db, Column::EventId.eq(event_id), after, limit).await
}

async fn page(
    db: &impl ConnectionTrait,
    whose: sea_orm::sea_query::SimpleExpr,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Model>, DbErr> {
    rows::latest(db, Entity::find().filter(whose), Column::Id, |order| order.id, after, limit).await
}

/// Notes that the tickets left by mail; the first time counts.
pub async fn set_mailed(db: &impl ConnectionTrait, id: i64, at_ms: i64) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::MailedAtMs, Expr::value(at_ms))
        .filter(Column::Id.eq(id))
        .filter(Column::MailedAtMs.is_null());
    update.exec(db).await.map(drop)
}

/// Notes that the money went back; the tickets are good no longer.
pub(crate) async fn set_refunded(db: &impl ConnectionTrait, id: i64) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Refunded))
        .filter(Column::Id.eq(id));
    update.exec(db).await.map(drop)
}
