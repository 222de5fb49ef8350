//! How often each event's page was opened: written many events at once, from buffered counts.

use std::collections::BTreeMap;

use sea_orm::{
    ActiveValue::Set,
    DbBackend,
    entity::prelude::*,
    sea_query::{ExprTrait, OnConflict},
};

use super::rows;

/// The views of one event, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "views")]
pub struct Model {
    /// The event.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: i64,
    /// How many.
    pub total: i64,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The views of several events by their ids; one that was never opened is not among them.
pub async fn of_many(
    db: &impl ConnectionTrait,
    event_ids: impl IntoIterator<Item = i64>,
) -> Result<BTreeMap<i64, i64>, DbErr> {
    let found = rows::named::<Entity>(db, Column::EventId, event_ids).await?;
    Ok(found.into_iter().map(|views| (views.event_id, views.total)).collect())
}

/// Adds to the views of events, in the order of their ids, so that two writers never wait for each
/// other in a circle. Call it in a transaction.
pub async fn add(tx: &impl ConnectionTrait, views: &BTreeMap<i64, i64>) -> Result<(), DbErr> {
    let inserted = match tx.get_database_backend() {
        DbBackend::MySql => Expr::cust("VALUES(total)"),
        _ => Expr::cust("excluded.total"),
    };
    let sum = Expr::col((Entity, Column::Total)).add(inserted);
    let add = OnConflict::column(Column::EventId).value(Column::Total, sum).to_owned();
    let row = |(&event_id, &total)| ActiveModel { event_id: Set(event_id), total: Set(total) };
    let rows: Vec<ActiveModel> = views.iter().map(row).collect();
    for some in rows.chunks(ROWS_A_STATEMENT) {
        let insert = Entity::insert_many(some.to_vec()).on_conflict(add.clone());
        insert.exec_without_returning(tx).await?;
    }
    Ok(())
}

const ROWS_A_STATEMENT: usize = 500;
