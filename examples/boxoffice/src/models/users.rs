//! People with an account. Passwords and sessions are `accounts`' business.

use sea_orm::{ActiveValue::Set, entity::prelude::*};
use serde::Serialize;

use super::rows;

/// A person with an account, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// Time-ordered id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The name in addresses, lower case: `/people/{username}`.
    pub username: String,
    /// Where tickets are mailed, lower case.
    #[serde(skip)]
    pub email: String,
    /// Django's format: algorithm, parameters, salt and hash between `$`.
    #[serde(skip)]
    pub password: String,
    /// The name that others read; never empty.
    pub name: String,
    /// What they say about themselves, plain text.
    pub bio: String,
    /// Whether they moderate.
    pub is_staff: bool,
    /// Whether they may sign in.
    pub is_active: bool,
    /// When they signed up, in milliseconds since 1970 UTC.
    pub joined_at_ms: i64,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The person `id`.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// The person called `username`, in any case.
pub async fn find_by_username(
    db: &impl ConnectionTrait,
    username: &str,
) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::Username.eq(username.to_lowercase())).one(db).await
}

/// The person whose address is `email`, in any case.
pub async fn find_by_email(db: &impl ConnectionTrait, email: &str) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::Email.eq(email.to_lowercase())).one(db).await
}

/// The people `ids`, in no order: to attach authors to what they wrote.
pub async fn find_many(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = i64>,
) -> Result<Vec<Model>, DbErr> {
    rows::named::<Entity>(db, Column::Id, ids).await
}

/// Writes a person's own words about themselves, where they changed.
pub async fn edit_profile(
    db: &impl ConnectionTrait,
    user: &Model,
    name: &str,
    bio: &str,
) -> Result<Result<(), super::Problems>, DbErr> {
    let (name, bio) = (name.trim(), bio.trim().replace("\r\n", "\n"));
    let mut problems = super::Problems::default();
    if name.is_empty() {
        problems.add("name", "cannot be empty");
    }
    for (field, value, most) in [("name", name, 150), ("bio", &*bio, 2_000)] {
        if value.chars().count() > most {
            problems.add(field, format!("is longer than {most} characters"));
        }
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let mut changes = ActiveModel { id: Set(user.id), ..Default::default() };
    if name != user.name {
        changes.name = Set(name.to_owned());
    }
    if bio != user.bio {
        changes.bio = Set(bio);
    }
    if changes.name.is_set() || changes.bio.is_set() {
        changes.update_without_returning(db).await?;
    }
    Ok(Ok(()))
}

/// Makes someone a moderator, or no longer one.
pub async fn set_staff(db: &impl ConnectionTrait, id: i64, is_staff: bool) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::IsStaff, Expr::value(is_staff))
        .filter(Column::Id.eq(id));
    update.exec(db).await.map(drop)
}
