//! Events: find one, browse them by day, create and edit them.

use sea_orm::{
    Condition, IntoActiveModel, Iterable, Order, QueryOrder, QuerySelect, entity::prelude::*,
    sea_query::SimpleExpr,
};
use serde::Serialize;

use super::{Cursor, Page, Problems, Stamp, comments, rows, search, seats};

mod draft;

pub(crate) use draft::parse_price;
pub use draft::{Draft, Form, is_date};

/// The table, as signals name it.
pub const TABLE: &str = "events";

/// An event, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub struct Model {
    /// Time-ordered id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// What it is called.
    pub name: String,
    /// Its own site; empty when it has none.
    pub url: String,
    /// First day, `YYYY-MM-DD`.
    pub starts_on: String,
    /// Last day, `YYYY-MM-DD`.
    pub ends_on: String,
    /// City; empty when it is only online.
    pub city: String,
    /// Country; empty when it is only online.
    pub country: String,
    /// Whether it can be attended online.
    pub online: bool,
    /// Languages it is held in, such as `EN` or `EN,DE`; may be empty.
    pub locales: String,
    /// One word, such as `rust`.
    pub topic: String,
    /// Plain text; paragraphs are separated by blank lines.
    pub description: String,
    /// Who organises it, when known.
    pub organiser_id: Option<i64>,
    /// Price of one seat in the currency's smallest unit; 0 is free.
    pub price_cents: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Draft, published or cancelled.
    pub status: Status,
    /// When it was entered here, in milliseconds since 1970 UTC.
    pub created_at_ms: i64,
    /// What an import recognises it by; `None` for events entered by hand.
    #[serde(skip)]
    pub import_key: Option<String>,
}

#[expect(missing_docs, reason = "sea-orm's derive asks for an empty relation")]
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Who may see an event, and whether it sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Only its organiser sees it.
    Draft = 0,
    /// Everyone sees it.
    Published = 1,
    /// Everyone sees that it will not take place; nothing is sold.
    Cancelled = 2,
}

impl Model {
    /// The readable end of its address: `/events/{id}/{slug}`.
    #[must_use]
    pub fn slug(&self) -> String {
        let mut slug = String::new();
        for word in search::words(&self.name).take(8) {
            if !slug.is_empty() {
                slug.push('-');
            }
            slug.push_str(&word);
        }
        slug
    }

    /// Whether it is over on `today`.
    #[must_use]
    pub fn is_over(&self, today: &str) -> bool {
        self.ends_on.as_str() < today
    }

    /// Whether tickets are sold on `today`, while there are seats.
    #[must_use]
    pub fn is_selling(&self, today: &str) -> bool {
        self.status == Status::Published && !self.is_over(today)
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { day: self.starts_on.clone(), id: self.id }
    }
}

/// Which part of the calendar a list shows, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When<'a> {
    /// From this day on, soonest first.
    From(&'a str),
    /// Before this day, latest first.
    Before(&'a str),
}

/// Which events a list shows; an unset field does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Events of one topic.
    pub topic: Option<String>,
    /// Events in one country.
    pub country: Option<String>,
    /// Events in one city.
    pub city: Option<String>,
    /// Events of one organiser.
    pub organiser_id: Option<i64>,
}

/// The event `id`, whatever its status.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// The events `ids`, whatever their status, in no order.
pub async fn find_many(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = i64>,
) -> Result<Vec<Model>, DbErr> {
    rows::named::<Entity>(db, Column::Id, ids).await
}

/// One page of the published events that `filter` lets through, in the order of `when`.
pub async fn browse(
    db: &impl ConnectionTrait,
    filter: &Filter,
    when: When<'_>,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Model>, DbErr> {
    let mut select = Entity::find().filter(Column::Status.eq(Status::Published));
    for (column, value) in [
        (Column::Topic, &filter.topic),
        (Column::Country, &filter.country),
        (Column::City, &filter.city),
    ] {
        if let Some(value) = value {
            select = select.filter(column.eq(value));
        }
    }
    if let Some(organiser) = filter.organiser_id {
        select = select.filter(Column::OrganiserId.eq(organiser));
    }
    let (day, order) = match when {
        When::From(day) => (Column::StartsOn.gte(day), Order::Asc),
        When::Before(day) => (Column::StartsOn.lt(day), Order::Desc),
    };
    select = select.filter(day);
    if let Some(cursor) = after {
        select = select.filter(past(cursor, when, Column::StartsOn, Column::Id));
    }
    let rows = select
        .order_by(Column::StartsOn, order.clone())
        .order_by(Column::Id, order)
        .limit(limit.saturating_add(1))
        .all(db)
        .await?;
    Ok(Page::cut(rows, limit, Model::cursor))
}

/// What lies past `cursor`, in a form that every database reads as one range of an index.
pub(crate) fn past<C: ColumnTrait>(cursor: &Cursor, when: When<'_>, day: C, id: C) -> Condition {
    let (from, beyond, next): (SimpleExpr, SimpleExpr, SimpleExpr) = match when {
        When::From(_) => (day.gte(&*cursor.day), day.gt(&*cursor.day), id.gt(cursor.id)),
        When::Before(_) => (day.lte(&*cursor.day), day.lt(&*cursor.day), id.lt(cursor.id)),
    };
    Condition::all().add(from).add(Condition::any().add(beyond).add(next))
}

/// One page of an organiser's events, drafts too, latest entered first.
pub async fn of_organiser(
    db: &impl ConnectionTrait,
    organiser_id: i64,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Model>, DbErr> {
    let select = Entity::find().filter(Column::OrganiserId.eq(organiser_id));
    rows::latest(db, select, Column::Id, |event| event.id, after, limit).await
}

/// Enters a checked event with its seats. Call it in a transaction that signals it.
pub async fn create(
    tx: &impl ConnectionTrait,
    stamp: Stamp,
    organiser_id: i64,
    draft: &Draft,
) -> Result<Model, DbErr> {
    let event = draft.to_event(stamp, Some(organiser_id));
    Entity::insert(event.clone().into_active_model()).exec_without_returning(tx).await?;
    seats::open(tx, event.id, draft.capacity).await?;
    Ok(event)
}

/// An event that was edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// As it is now.
    pub event: Model,
    /// The columns that changed.
    pub columns: Vec<&'static str>,
}

/// Writes the columns in which `draft` differs from `event`, and no others. Call it in a
/// transaction that signals them.
///
/// The capacity is changed only when the seats sold and held still fit.
pub async fn edit(
    tx: &impl ConnectionTrait,
    event: &Model,
    draft: &Draft,
) -> Result<Result<Edited, Problems>, DbErr> {
    if let Err(taken) = seats::resize(tx, event.id, draft.capacity).await? {
        let mut problems = Problems::default();
        problems.add("capacity", format!("{taken} seats are already sold or held"));
        return Ok(Err(problems));
    }
    let (changes, event) = draft.changes(event);
    let changed = Column::iter().filter(|column| changes.get(*column).is_set());
    let columns: Vec<_> = changed.map(|column| column.as_str()).collect();
    if !columns.is_empty() {
        changes.update_without_returning(tx).await?;
    }
    Ok(Ok(Edited { event, columns }))
}

/// Deletes a draft with which nobody has anything to do yet: no seat is sold or held, nothing was
/// said. `false` when there is no such draft; then roll back. Call it in a transaction that signals
/// it.
pub async fn delete(tx: &impl ConnectionTrait, event_id: i64) -> Result<bool, DbErr> {
    let draft = Entity::delete_many()
        .filter(Column::Id.eq(event_id))
        .filter(Column::Status.eq(Status::Draft));
    let is_draft = draft.exec(tx).await?.rows_affected == 1;
    let said = comments::Entity::find().filter(comments::Column::EventId.eq(event_id));
    // Whoever holds seats at this moment changes the row that goes here, or finds it gone.
    Ok(is_draft && seats::close(tx, event_id).await? && said.one(tx).await?.is_none())
}

/// Stops sales and says so on the page. `false` when it was cancelled already.
pub async fn cancel(tx: &impl ConnectionTrait, event_id: i64) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Cancelled))
        .filter(Column::Id.eq(event_id))
        .filter(Column::Status.ne(Status::Cancelled));
    Ok(update.exec(tx).await?.rows_affected == 1)
}
