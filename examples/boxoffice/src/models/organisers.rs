//! Organisers: whom an event is by. A person has one as soon as they create an event; imported
//! events are by the site they live on.

use sea_orm::{IntoActiveModel, entity::prelude::*};
use serde::Serialize;

use super::{Stamp, User, rows};

/// An organiser, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "organisers")]
pub struct Model {
    /// Time-ordered id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The name that visitors read.
    pub name: String,
    /// Host name of its site; empty when it has none.
    pub website: String,
    /// Plain text.
    pub about: String,
    /// The person who may edit its events; none for imported ones.
    #[serde(skip)]
    pub owner_id: Option<i64>,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The organiser `id`.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// The organisers `ids`, in no order.
pub async fn find_many(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = i64>,
) -> Result<Vec<Model>, DbErr> {
    rows::named::<Entity>(db, Column::Id, ids).await
}

/// The organisers whose site is at one of these hosts.
pub(crate) async fn find_by_website(
    db: &impl ConnectionTrait,
    hosts: &[&str],
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Website.is_in(hosts.iter().copied())).all(db).await
}

/// The organiser that `user` owns, if they have created an event before.
pub async fn of_owner(db: &impl ConnectionTrait, user_id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::OwnerId.eq(user_id)).one(db).await
}

/// The organiser that `user` owns, made when missing. Call it in the transaction of the event.
pub async fn ensure(tx: &impl ConnectionTrait, stamp: Stamp, user: &User) -> Result<Model, DbErr> {
    if let Some(organiser) = of_owner(tx, user.id).await? {
        return Ok(organiser);
    }
    let organiser = Model {
        id: stamp.id,
        name: user.name.clone(),
        website: String::new(),
        about: user.bio.clone(),
        owner_id: Some(user.id),
    };
    Entity::insert(organiser.clone().into_active_model()).exec_without_returning(tx).await?;
    Ok(organiser)
}

/// The host of a URL without its `www.`: what imported events are by.
pub(crate) fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let host = rest.split(['/', '?', '#', ':']).next()?;
    let host = host.strip_prefix("www.").unwrap_or(host);
    (!host.is_empty()).then_some(host)
}
