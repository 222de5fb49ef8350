//! What is new from those whom someone follows: their events and their comments, latest first.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityName, Iden, QueryResult,
    sea_query::{Alias, Expr, ExprTrait, Order, Query, SelectStatement, UnionType},
};
use serde::Serialize;

use super::{Comment, Cursor, Event, Page, comments, events, follows, follows::Kind};

/// One entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// An organiser entered a new event.
    Event(Event),
    /// A person wrote a comment on an event.
    Comment(Comment, Event),
}

impl Entry {
    /// The entry's place in the timeline.
    #[must_use]
    pub fn id(&self) -> i64 {
        match self {
            Self::Event(event) => event.id,
            Self::Comment(comment, _) => comment.id,
        }
    }
}

/// One page of the timeline of `user_id`.
///
/// Reads at most `limit` keys of each that is followed, and follows at most
/// 1,000: timelines beyond that are the business of a store of their own.
pub async fn of(
    db: &impl ConnectionTrait,
    user_id: i64,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Entry>, DbErr> {
    let followed = follows::of_follower(db, user_id, MAX_FOLLOWED).await?;
    let before = after.map_or(i64::MAX, |cursor| cursor.id);
    let of_kind = |kind| followed.iter().filter(move |follow| follow.kind == kind);
    let wanted = limit.saturating_add(1);
    let mut parts: Vec<SelectStatement> = Vec::new();
    for organiser in of_kind(Kind::Organiser) {
        let shown = events::Column::Status.ne(events::Status::Draft);
        let own = events::Column::OrganiserId.eq(organiser.target_id);
        parts.push(newest(events::Entity, "event", before, wanted, &[own, shown]));
    }
    for person in of_kind(Kind::Person) {
        let shown = comments::Column::IsHidden.eq(false);
        let own = comments::Column::AuthorId.eq(person.target_id);
        parts.push(newest(comments::Entity, "comment", before, wanted, &[own, shown]));
    }
    let mut keys = Vec::new();
    for some in parts.chunks(PARTS_A_STATEMENT) {
        let Some((first, rest)) = some.split_first() else { break };
        let mut all = first.clone();
        for part in rest {
            all.union(UnionType::All, part.clone());
        }
        for row in db.query_all(&all).await? {
            keys.push(key(&row)?);
        }
    }
    keys.sort_unstable_by(|one, other| other.cmp(one));
    let page = Page::cut(keys, limit, |(id, _)| Cursor::id(*id));
    let items = attach(db, &page.items).await?;
    Ok(Page { items, next: page.next })
}

/// The newest ids of one that is followed, as a select that can be part of a union.
fn newest(
    table: impl EntityName + Iden + Copy,
    kind: &'static str,
    before: i64,
    wanted: u64,
    filters: &[Expr],
) -> SelectStatement {
    let mut ids = Query::select();
    ids.expr_as(Expr::val(kind), "kind").column("id").from(table.table_ref());
    ids.and_where(Expr::col("id").lt(before));
    for filter in filters {
        ids.and_where(filter.clone());
    }
    ids.order_by("id", Order::Desc).limit(wanted);
    Query::select().columns(["id", "kind"]).from_subquery(ids, Alias::new("newest")).take()
}

fn key(row: &QueryResult) -> Result<(i64, bool), DbErr> {
    let kind: String = row.try_get("", "kind")?;
    Ok((row.try_get("", "id")?, kind == "comment"))
}

/// Reads what the keys stand for; what has gone meanwhile is left out.
async fn attach(db: &impl ConnectionTrait, keys: &[(i64, bool)]) -> Result<Vec<Entry>, DbErr> {
    let ids = |comments| keys.iter().filter(move |key| key.1 == comments).map(|key| key.0);
    let comments = comments::find_many(db, ids(true)).await?;
    let discussed = comments.iter().map(|comment| comment.event_id);
    let events = events::find_many(db, ids(false).chain(discussed)).await?;
    let event = |id: i64| events.iter().find(|event| event.id == id).cloned();
    let entry = |&(id, is_comment): &(i64, bool)| {
        if !is_comment {
            return event(id).map(Entry::Event);
        }
        let comment = comments.iter().find(|comment| comment.id == id)?;
        Some(Entry::Comment(comment.clone(), event(comment.event_id)?))
    };
    Ok(keys.iter().filter_map(entry).collect())
}

const MAX_FOLLOWED: u64 = 1_000;
/// Within SQLite's limit of 500 parts of a compound select.
const PARTS_A_STATEMENT: usize = 100;
