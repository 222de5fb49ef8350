//! Search: an index of the words of each event, kept in plain tables and written by a receiver of
//! the signal that an event was saved.
//!
//! Every word of the query must begin a word of the event's name, topic, city or country (or the
//! host of its site). What comes next is shown first: events from today on, soonest first, then past ones, latest
//! first. A page costs the same wherever it is in the list: the rarest word is walked in order of
//! days, the others are looked up.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{
    ActiveValue::Set,
    Condition, DbBackend, FromQueryResult, IntoActiveModel, Order, QueryOrder, QuerySelect,
    entity::prelude::*,
    sea_query::{Alias, ExprTrait, OnConflict, Query},
};

use super::{Cursor, Event, Page, events, events::When};

mod entity;

pub(crate) use entity::{event_term, term};

/// One page of the published events that match every word of `query`.
pub async fn find(
    db: &impl ConnectionTrait,
    query: &str,
    today: &str,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<Event>, DbErr> {
    let none = Page { items: Vec::new(), next: None };
    let asked: Vec<String> = words(query).collect::<BTreeSet<_>>().into_iter().collect();
    let mut known = Vec::new();
    for word in asked.into_iter().take(MAX_QUERY_WORDS) {
        let terms = begun_by(db, &word).await?;
        if terms.is_empty() {
            return Ok(none);
        }
        known.push(Word { text: word, terms });
    }
    known.sort_by_key(Word::events);
    let Some((rarest, others)) = known.split_first() else { return Ok(none) };
    let wanted = limit.saturating_add(1);
    let mut keys = Vec::new();
    let is_past = after.is_some_and(|cursor| *cursor.day < *today);
    if !is_past {
        keys = walk(db, rarest, others, When::From(today), after, wanted).await?;
    }
    let missing = wanted - keys.len() as u64;
    if missing > 0 {
        let after = after.filter(|_| is_past);
        keys.extend(walk(db, rarest, others, When::Before(today), after, missing).await?);
    }
    let page = Page::cut(keys, limit, Cursor::clone);
    let mut found: BTreeMap<i64, Event> =
        events::find_many(db, page.items.iter().map(|key| key.id))
            .await?
            .into_iter()
            .map(|event| (event.id, event))
            .collect();
    let items = page.items.iter().filter_map(|key| found.remove(&key.id)).collect();
    Ok(Page { items, next: page.next })
}

/// Writes the words of the event `id` as it is now to the index, in place of what was there; none of
/// an event that is a draft or gone. Doing it again does no harm. Call it in a transaction.
pub async fn refresh(tx: &impl ConnectionTrait, id: i64) -> Result<(), DbErr> {
    // Of two who do it at once, the second waits and sees what the first has written.
    let event = events::Entity::find_by_id(id).lock_exclusive().one(tx).await?;
    let event = event.filter(|event| event.status != events::Status::Draft);
    let own = event_term::Entity::find().filter(event_term::Column::EventId.eq(id));
    let before = own.lock_exclusive().all(tx).await?;
    let now = event.as_ref().map(terms_of).unwrap_or_default();
    let gone: Vec<&str> =
        before.iter().map(|row| row.term.as_str()).filter(|&term| !now.contains(term)).collect();
    if !before.is_empty() {
        let delete = event_term::Entity::delete_many().filter(event_term::Column::EventId.eq(id));
        delete.exec(tx).await?;
    }
    if !gone.is_empty() {
        let update = term::Entity::update_many()
            .col_expr(term::Column::Events, Expr::col(term::Column::Events).sub(1))
            .filter(term::Column::Term.is_in(gone));
        update.exec(tx).await?;
    }
    let mut new = BTreeMap::new();
    for term in now.iter().filter(|term| before.iter().all(|row| row.term != **term)) {
        new.insert(term.clone(), 1);
    }
    if let Some(event) = &event {
        insert(tx, now.into_iter().map(|term| posting(term, event)).collect()).await?;
    }
    count(tx, new).await
}

/// Writes the words of events that are new, many at once.
pub(crate) async fn index_new(tx: &impl ConnectionTrait, events: &[Event]) -> Result<(), DbErr> {
    let mut rows = Vec::new();
    let mut counts = BTreeMap::new();
    for event in events {
        for term in terms_of(event) {
            *counts.entry(term.clone()).or_insert(0) += 1;
            rows.push(posting(term, event));
        }
    }
    insert(tx, rows).await?;
    count(tx, counts).await
}

/// The words of a text, folded so that `Zürich` and `ZURICH` are one word.
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '+' | '#');
    text.split(move |c| !is_word(c)).filter(|word| !word.is_empty()).map(|word| {
        let folded = word.chars().flat_map(char::to_lowercase).map(fold);
        folded.collect::<String>().chars().take(MAX_TERM_CHARS).collect()
    })
}

struct Word {
    text: String,
    terms: Vec<term::Model>,
}

impl Word {
    fn events(&self) -> i64 {
        self.terms.iter().map(|term| i64::from(term.events)).sum()
    }
}

/// The commonest indexed words that begin with `word`.
async fn begun_by(db: &impl ConnectionTrait, word: &str) -> Result<Vec<term::Model>, DbErr> {
    let (from, to) = range(word);
    term::Entity::find()
        .filter(term::Column::Term.gte(from))
        .filter(term::Column::Term.lt(to))
        .filter(term::Column::Events.gt(0))
        .order_by_desc(term::Column::Events)
        .limit(MAX_EXPANSIONS)
        .all(db)
        .await
}

/// Walks the rarest word's events in order of days, and keeps those that have the others too.
async fn walk(
    db: &impl ConnectionTrait,
    rarest: &Word,
    others: &[Word],
    when: When<'_>,
    after: Option<&Cursor>,
    wanted: u64,
) -> Result<Vec<Cursor>, DbErr> {
    use event_term::{Column, Entity};
    let mut keys = BTreeSet::new();
    for term in &rarest.terms {
        let (day, order) = match when {
            When::From(day) => (Column::StartsOn.gte(day), Order::Asc),
            When::Before(day) => (Column::StartsOn.lt(day), Order::Desc),
        };
        let mut select = Entity::find()
            .select_only()
            .columns([Column::StartsOn, Column::EventId])
            .filter(Column::Term.eq(&*term.term))
            .filter(day);
        for other in others {
            select = select.filter(has(&other.text));
        }
        if let Some(cursor) = after {
            select = select.filter(events::past(cursor, when, Column::StartsOn, Column::EventId));
        }
        let rows = select
            .order_by(Column::StartsOn, order.clone())
            .order_by(Column::EventId, order)
            .limit(wanted)
            .into_model::<Key>()
            .all(db)
            .await?;
        keys.extend(rows.into_iter().map(|key| Cursor { day: key.starts_on, id: key.event_id }));
    }
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    Ok(match when {
        When::From(_) => keys.into_iter().take(wanted).collect(),
        When::Before(_) => keys.into_iter().rev().take(wanted).collect(),
    })
}

/// That the event of the outer row has a word that begins with `word`.
fn has(word: &str) -> Condition {
    let (from, to) = range(word);
    let other = || Alias::new("other");
    let col = |column: &'static str| Expr::col((other(), Alias::new(column)));
    let own = (event_term::Entity, event_term::Column::EventId);
    let exists = Query::select()
        .expr(Expr::val(1))
        .from_as(event_term::Entity, other())
        .and_where(col("event_id").eq(Expr::col(own)))
        .and_where(col("term").gte(from))
        .and_where(col("term").lt(to))
        .to_owned();
    Condition::all().add(Expr::exists(exists))
}

/// Everything that begins with `word` lies from the first (included) to the second (not).
fn range(word: &str) -> (String, String) {
    (word.to_owned(), format!("{word}\u{10FFFF}"))
}

#[derive(FromQueryResult)]
struct Key {
    starts_on: String,
    event_id: i64,
}

fn terms_of(event: &Event) -> BTreeSet<String> {
    let host = super::organisers::host_of(&event.url).unwrap_or_default();
    [&*event.name, &event.topic, &event.city, &event.country, host]
        .into_iter()
        .flat_map(words)
        .filter(|word| !matches!(&**word, "com" | "org" | "www" | "the" | "of" | "and"))
        .collect()
}

fn posting(term: String, event: &Event) -> event_term::ActiveModel {
    event_term::Model { term, starts_on: event.starts_on.clone(), event_id: event.id }
        .into_active_model()
}

async fn insert(
    tx: &impl ConnectionTrait,
    rows: Vec<event_term::ActiveModel>,
) -> Result<(), DbErr> {
    for some in rows.chunks(ROWS_A_STATEMENT) {
        event_term::Entity::insert_many(some.to_vec()).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Adds to the number of events that have each word.
async fn count(tx: &impl ConnectionTrait, counts: BTreeMap<String, i32>) -> Result<(), DbErr> {
    let rows: Vec<term::ActiveModel> = counts
        .into_iter()
        .map(|(term, events)| term::ActiveModel { term: Set(term), events: Set(events) })
        .collect();
    let inserted = match tx.get_database_backend() {
        DbBackend::MySql => Expr::cust("VALUES(events)"),
        _ => Expr::cust("excluded.events"),
    };
    let sum = Expr::col((term::Entity, term::Column::Events)).add(inserted);
    let add = OnConflict::column(term::Column::Term).value(term::Column::Events, sum).to_owned();
    for some in rows.chunks(ROWS_A_STATEMENT) {
        let insert = term::Entity::insert_many(some.to_vec()).on_conflict(add.clone());
        insert.exec_without_returning(tx).await?;
    }
    Ok(())
}

/// The plain letter below an accent, for the Latin letters that city names have.
fn fold(letter: char) -> char {
    match letter {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ě' => 'e',
        'ğ' | 'ģ' => 'g',
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'į' | 'ı' => 'i',
        'ķ' => 'k',
        'ł' | 'ļ' | 'ľ' => 'l',
        'ñ' | 'ń' | 'ň' | 'ņ' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ř' => 'r',
        'ś' | 'š' | 'ş' | 'ș' => 's',
        'ť' | 'ţ' | 'ț' => 't',
        'ù' | 'ú' | 'û' | 'ü' | 'ū' | 'ů' | 'ű' | 'ų' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    }
}

const MAX_QUERY_WORDS: usize = 6;
/// A beginning such as `a` begins thousands of words; the commonest ones stand for all.
const MAX_EXPANSIONS: u64 = 24;
/// Of the column.
const MAX_TERM_CHARS: usize = 40;
/// Three values a row, within SQLite's limit of 32,766 values a statement.
pub(crate) const ROWS_A_STATEMENT: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_bounded() {
        let of = |text: &str| words(text).collect::<Vec<_>>();
        assert_eq!(of("ZÜRICH, São-Paulo & İzmir"), ["zurich", "sao", "paulo", "i\u{307}zmir"]);
        assert_eq!(of("C++ / C# .NET"), ["c++", "c#", "net"]);
        assert_eq!(of(&"x".repeat(1_000)), ["x".repeat(40)]);
        assert!(of(" ,;\u{0}").is_empty());
    }
}
