//! Who follows whom: people follow people and organisers.

use sea_orm::{
    IntoActiveModel, QuerySelect, TryInsertResult, entity::prelude::*, sea_query::OnConflict,
};

use super::{Cursor, Page, Stamp, rows};

/// A follow, as stored. The same target is followed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "follows")]
pub struct Model {
    /// Time-ordered id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// Who follows.
    pub follower_id: i64,
    /// What kind of thing is followed.
    pub kind: Kind,
    /// The id of the person or organiser that is followed.
    pub target_id: i64,
    /// Since when, in milliseconds since 1970 UTC.
    pub created_at_ms: i64,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What can be followed, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum Kind {
    /// A person.
    Person = 1,
    /// An organiser.
    Organiser = 2,
}

/// Someone or something to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A person's id.
    Person(i64),
    /// An organiser's id.
    Organiser(i64),
}

impl Target {
    pub(crate) fn parts(self) -> (Kind, i64) {
        match self {
            Self::Person(id) => (Kind::Person, id),
            Self::Organiser(id) => (Kind::Organiser, id),
        }
    }
}

impl Model {
    /// Whom or what is followed.
    #[must_use]
    pub fn target(&self) -> Target {
        match self.kind {
            Kind::Person => Target::Person(self.target_id),
            Kind::Organiser => Target::Organiser(self.target_id),
        }
    }
}

/// Begins to follow; `false` when it was so already, or when someone follows themselves.
///
/// The caller counts it (`tasks::Count`).
pub async fn follow(
    db: &impl ConnectionTrait,
    stamp: Stamp,
    follower_id: i64,
    target: Target,
) -> Result<bool, DbErr> {
    if target == Target::Person(follower_id) {
        return Ok(false);
    }
    let (kind, target_id) = target.parts();
    let follow = Model { id: stamp.id, follower_id, kind, target_id, created_at_ms: stamp.at_ms };
    let once = OnConflict::columns([Column::FollowerId, Column::Kind, Column::TargetId])
        .do_nothing_on([Column::Id])
        .to_owned();
    let insert = Entity::insert(follow.into_active_model()).on_conflict(once).try_insert();
    Ok(matches!(insert.exec_without_returning(db).await?, TryInsertResult::Inserted(1..)))
}

/// Stops following; `false` when it was so already.
pub async fn unfollow(
    db: &impl ConnectionTrait,
    follower_id: i64,
    target: Target,
) -> Result<bool, DbErr> {
    let (kind, target_id) = target.parts();
    let delete = Entity::delete_many()
        .filter(Column::FollowerId.eq(follower_id))
        .filter(Column::Kind.eq(kind))
        .filter(Column::TargetId.eq(target_id));
    Ok(delete.exec(db).await?.rows_affected == 1)
}

/// Whether `follower_id` follows `target`.
pub async fn is_following(
    db: &impl ConnectionTrait,
    follower_id: i64,
    target: Target,
) -> Result<bool, DbErr> {
    let (kind, target_id) = target.parts();
    let found = Entity::find()
        .filter(Column::FollowerId.eq(follower_id))
        .filter(Column::Kind.eq(kind))
        .filter(Column::TargetId.eq(target_id))
        .one(db)
        .await?;
    Ok(found.is_some())
}

/// Everything that a person follows, at most `limit`.
pub async fn of_follower(
    db: &impl ConnectionTrait,
    follower_id: i64,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::FollowerId.eq(follower_id)).limit(limit).all(db).await
}

/// One page of the ids of those who follow `target`, latest first.
pub async fn followers(
    db: &impl ConnectionTrait,
    target: Target,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<i64>, DbErr> {
    let (kind, target_id) = target.parts();
    let select =
        Entity::find().filter(Column::Kind.eq(kind)).filter(Column::TargetId.eq(target_id));
    let page = rows::latest(db, select, Column::Id, |follow| follow.id, after, limit).await?;
    Ok(page.map(|follow| follow.follower_id))
}
