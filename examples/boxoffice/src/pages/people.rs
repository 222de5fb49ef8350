//! Profiles, organisers and the timeline.

use std::collections::HashMap;

use maud::Markup;
use serde::Deserialize;
use throng::{
    Error, Result,
    web::{Path, Query},
};

use super::{Guest, events};
use crate::{
    kept,
    models::{
        Cursor, Event, Target, comments,
        counters::Counted,
        events::{self as store, Filter, Status, When},
        follows, organisers,
        timeline::{self, Entry},
        users,
    },
    tags,
    views::{
        encode,
        people::{self as view, Followed, Happening},
        talk,
    },
};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Asked {
    after: String,
}

pub(super) async fn person(
    guest: Guest,
    Path(username): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Markup> {
    let db = &guest.cx.db;
    let user = users::find_by_username(db, &username).await?.filter(|user| user.is_active);
    let user = user.ok_or_else(|| Error::not_found("there is no such person"))?;
    let db = &guest.cx.shows(&tags::person(user.id)).await?.db;
    let after: Option<Cursor> = events::parse(&asked.after)?;
    let page = comments::of_author(db, user.id, after.as_ref(), COMMENTS).await?;
    let link = |next: Cursor| format!("/people/{}?after={next}", encode(&user.username));
    let older = page.next.map(link);
    let about = store::find_many(db, page.items.iter().map(|said| said.event_id)).await?;
    let attach = |comment: comments::Model| {
        let is_public =
            |event: &&Event| event.id == comment.event_id && event.status != Status::Draft;
        Some((about.iter().find(is_public)?.clone(), comment))
    };
    let said: Vec<_> =
        page.items.into_iter().filter_map(attach).map(|(event, said)| (said, event)).collect();
    let target = Target::Person(user.id);
    let person = view::Person {
        followers: kept::count(&guest.cx, Counted::followers(target)).await?.into(),
        is_following: is_following(&guest, target).await?,
        comments: &said,
        older,
        follows: &followed(&guest, user.id).await?,
        user: &user,
    };
    let frame = guest.frame()?;
    Ok(frame.page(talk::name(&user), view::person(&frame, &person)))
}

pub(super) async fn organiser(guest: Guest, Path(id): Path<i64>) -> Result<Markup> {
    let (cx, today) = (&guest.cx.shows(tags::EVENTS).await?, guest.today());
    let organiser = organisers::find(&cx.db, id).await?;
    let organiser = organiser.ok_or_else(|| Error::not_found("there is no such organiser"))?;
    let filter = Filter { organiser_id: Some(id), ..Filter::default() };
    let coming = store::browse(&cx.db, &filter, When::From(&today), None, COMING).await?;
    let past = store::browse(&cx.db, &filter, When::Before(&today), None, PAST).await?;
    let target = Target::Organiser(id);
    let host = view::Host {
        followers: kept::count(cx, Counted::followers(target)).await?.into(),
        is_following: is_following(&guest, target).await?,
        today: &today,
        coming: &events::with_seats(cx, coming.items).await?,
        past: &events::with_seats(cx, past.items).await?,
        organiser: &organiser,
    };
    let frame = guest.frame()?;
    Ok(frame.page(&organiser.name, view::host(&frame, &host)))
}

pub(super) async fn timeline(guest: Guest, Query(asked): Query<Asked>) -> Result<Markup> {
    let user = guest.member()?;
    let db = &guest.cx.db;
    let after: Option<Cursor> = events::parse(&asked.after)?;
    let page = timeline::of(db, user.id, after.as_ref(), ENTRIES).await?;
    let hosts = page.items.iter().filter_map(|entry| match entry {
        Entry::Event(event) => event.organiser_id,
        Entry::Comment(..) => None,
    });
    let hosts: HashMap<i64, _> = by_id(organisers::find_many(db, hosts).await?, |host| host.id);
    let authors = page.items.iter().filter_map(|entry| match entry {
        Entry::Comment(comment, _) => Some(comment.author_id),
        Entry::Event(_) => None,
    });
    let authors: HashMap<i64, _> = by_id(users::find_many(db, authors).await?, |user| user.id);
    let happenings = page.items.iter().filter_map(|entry| match entry {
        Entry::Event(event) => {
            Some(Happening::Announced { organiser: hosts.get(&event.organiser_id?)?, event })
        }
        Entry::Comment(comment, event) => {
            Some(Happening::Said { author: authors.get(&comment.author_id)?, comment, event })
        }
    });
    let happenings: Vec<_> = happenings.collect();
    let older = page.next.map(|next| format!("/timeline?after={next}"));
    let body = view::timeline(&happenings, older.as_deref(), after.is_none());
    Ok(guest.frame()?.page("Timeline", body))
}

/// Whether the guest follows `target`; `None` for strangers and for oneself.
async fn is_following(guest: &Guest, target: Target) -> Result<Option<bool>> {
    match guest.user() {
        Some(user) if target != Target::Person(user.id) => {
            Ok(Some(follows::is_following(&guest.cx.db, user.id, target).await?))
        }
        _ => Ok(None),
    }
}

/// Some of those whom a person follows, with links.
async fn followed(guest: &Guest, user_id: i64) -> Result<Vec<Followed>> {
    let db = &guest.cx.db;
    let all = follows::of_follower(db, user_id, FOLLOWED).await?;
    let of = |kind: fn(Target) -> Option<i64>| all.iter().filter_map(move |one| kind(one.target()));
    let people = of(|target| match target {
        Target::Person(id) => Some(id),
        Target::Organiser(_) => None,
    });
    let people = users::find_many(db, people).await?;
    let hosts = of(|target| match target {
        Target::Organiser(id) => Some(id),
        Target::Person(_) => None,
    });
    let hosts = organisers::find_many(db, hosts).await?;
    let people = people.iter().filter(|user| user.is_active).map(|user| Followed {
        link: format!("/people/{}", encode(&user.username)),
        name: talk::name(user).to_owned(),
    });
    let hosts = hosts
        .iter()
        .map(|host| Followed { link: format!("/organisers/{}", host.id), name: host.name.clone() });
    Ok(hosts.chain(people).collect())
}

fn by_id<T>(rows: Vec<T>, id: fn(&T) -> i64) -> HashMap<i64, T> {
    rows.into_iter().map(|row| (id(&row), row)).collect()
}

const COMMENTS: u64 = 20;
const ENTRIES: u64 = 30;
const COMING: u64 = 24;
const PAST: u64 = 24;
const FOLLOWED: u64 = 24;
