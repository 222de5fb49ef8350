//! Counters: written by tasks as whole counts, so that each can be refilled at any time.

use sea_orm::{IntoActiveModel, PaginatorTrait, entity::prelude::*, sea_query::OnConflict};

use super::{Target, comments, follows};

/// One counter, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "counters")]
pub struct Model {
    /// What is counted.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: i16,
    /// Of whom or what.
    #[sea_orm(primary_key, auto_increment = false)]
    pub target_id: i64,
    /// How many.
    pub total: i32,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// The visible comments of an event.
    Comments(i64),
    /// Who follows a person.
    PersonFollowers(i64),
    /// Who follows an organiser.
    OrganiserFollowers(i64),
    /// What a person follows.
    Following(i64),
}

impl Counted {
    /// The followers of `target`.
    #[must_use]
    pub fn followers(target: Target) -> Self {
        match target {
            Target::Person(id) => Self::PersonFollowers(id),
            Target::Organiser(id) => Self::OrganiserFollowers(id),
        }
    }

    /// The counter as a row.
    pub(crate) fn row(self, total: i32) -> Model {
        let (kind, target_id) = self.key();
        Model { kind, target_id, total }
    }

    pub(crate) fn key(self) -> (i16, i64) {
        match self {
            Self::Comments(id) => (1, id),
            Self::PersonFollowers(id) => (2, id),
            Self::OrganiserFollowers(id) => (3, id),
            Self::Following(id) => (4, id),
        }
    }
}

/// How many there are, as of the last count; 0 before the first.
pub async fn of(db: &impl ConnectionTrait, counted: Counted) -> Result<i32, DbErr> {
    Ok(Entity::find_by_id(counted.key()).one(db).await?.map_or(0, |counter| counter.total))
}

/// Counts again and keeps the result. Doing it twice does no harm.
pub async fn refill(tx: &impl ConnectionTrait, counted: Counted) -> Result<i32, DbErr> {
    let total = match counted {
        Counted::Comments(id) => {
            comments::Entity::find()
                .filter(comments::Column::EventId.eq(id))
                .filter(comments::Column::IsHidden.eq(false))
                .count(tx)
                .await?
        }
        Counted::PersonFollowers(id) => followers(tx, Target::Person(id)).await?,
        Counted::OrganiserFollowers(id) => followers(tx, Target::Organiser(id)).await?,
        Counted::Following(id) => {
            let following = follows::Column::FollowerId.eq(id);
            follows::Entity::find().filter(following).count(tx).await?
        }
    };
    let total = i32::try_from(total).unwrap_or(i32::MAX);
    let set = OnConflict::columns([Column::Kind, Column::TargetId])
        .update_column(Column::Total)
        .to_owned();
    let row = counted.row(total).into_active_model();
    Entity::insert(row).on_conflict(set).exec_without_returning(tx).await?;
    Ok(total)
}

async fn followers(tx: &impl ConnectionTrait, target: Target) -> Result<u64, DbErr> {
    let (kind, id) = target.parts();
    follows::Entity::find()
        .filter(follows::Column::Kind.eq(kind))
        .filter(follows::Column::TargetId.eq(id))
        .count(tx)
        .await
}
