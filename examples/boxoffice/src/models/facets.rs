//! What a visitor can browse by, with the number of coming events of each: a small table that a
//! task refills, so that no page ever counts.

use sea_orm::{QueryOrder, QuerySelect, entity::prelude::*, sea_query::ExprTrait};
use serde::Serialize;

use super::bulk;

/// One topic, country or city, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "facets")]
pub struct Model {
    /// Topic, country or city.
    #[sea_orm(primary_key, auto_increment = false)]
    #[serde(skip)]
    pub kind: Kind,
    /// Its name, as events have it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// How many published events are still to come.
    pub events: i32,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// By what events can be browsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum Kind {
    /// A topic.
    Topic = 1,
    /// A country.
    Country = 2,
    /// A city.
    City = 3,
}

/// The names of one kind with the most coming events, the most first.
pub async fn list(db: &impl ConnectionTrait, kind: Kind, limit: u64) -> Result<Vec<Model>, DbErr> {
    Entity::find()
        .filter(Column::Kind.eq(kind))
        .order_by_desc(Column::Events)
        .order_by_asc(Column::Name)
        .limit(limit)
        .all(db)
        .await
}

/// Counts everything again as of `today`. Reads every coming event: call it from a task or a
/// command, and outside of the transaction that writes the result, which would make buyers wait.
pub async fn count(db: &impl ConnectionTrait, today: &str) -> Result<Vec<Model>, DbErr> {
    use super::events;
    let mut all = Vec::new();
    for (kind, column) in [
        (Kind::Topic, events::Column::Topic),
        (Kind::Country, events::Column::Country),
        (Kind::City, events::Column::City),
    ] {
        let counted: Vec<(String, i64)> = events::Entity::find()
            .select_only()
            .column(column)
            .column_as(Expr::col(events::Column::Id).count(), "events")
            .filter(events::Column::Status.eq(events::Status::Published))
            .filter(events::Column::StartsOn.gte(today))
            .filter(column.ne(""))
            .group_by(column)
            .order_by_desc(Expr::col(events::Column::Id).count())
            .order_by_asc(column)
            .limit(MOST_OF_A_KIND)
            .into_tuple()
            .all(db)
            .await?;
        all.extend(counted.into_iter().map(|(name, events)| {
            let events = i32::try_from(events).unwrap_or(i32::MAX);
            Model { kind, name, events }
        }));
    }
    Ok(all)
}

/// Writes what was counted in place of what was there. Call it in a transaction.
pub async fn replace(tx: &impl ConnectionTrait, counted: Vec<Model>) -> Result<(), DbErr> {
    Entity::delete_many().exec(tx).await?;
    bulk::rows::<ActiveModel, _>(tx, counted).await
}

const MOST_OF_A_KIND: u64 = 200;
