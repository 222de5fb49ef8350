//! Following people and organisers.

use throng::{
    Error, Result,
    web::{Path, Response},
};

use super::Guest;
use crate::{
    models::{Stamp, Target, counters::Counted, follows, organisers, users},
    tasks::Count,
    views::{encode, talk},
};

pub(super) async fn follow_person(guest: Guest, Path(name): Path<String>) -> Result<Response> {
    person(guest, &name, true).await
}

pub(super) async fn unfollow_person(guest: Guest, Path(name): Path<String>) -> Result<Response> {
    person(guest, &name, false).await
}

pub(super) async fn follow_organiser(guest: Guest, Path(id): Path<i64>) -> Result<Response> {
    organiser(guest, id, true).await
}

pub(super) async fn unfollow_organiser(guest: Guest, Path(id): Path<i64>) -> Result<Response> {
    organiser(guest, id, false).await
}

async fn person(guest: Guest, username: &str, follow: bool) -> Result<Response> {
    let me = guest.member()?.id;
    let person = users::find_by_username(&guest.cx.db, username).await?;
    let person = person.ok_or_else(|| Error::not_found("there is no such person"))?;
    let path = format!("/people/{}", encode(&person.username));
    if person.id == me {
        return Ok(guest.warned(&path, "This is you. Nobody follows themselves."));
    }
    set(&guest, Target::Person(person.id), follow).await?;
    Ok(guest.told(&path, words(talk::name(&person), follow)))
}

async fn organiser(guest: Guest, id: i64, follow: bool) -> Result<Response> {
    guest.member()?;
    let organiser = organisers::find(&guest.cx.db, id).await?;
    let organiser = organiser.ok_or_else(|| Error::not_found("there is no such organiser"))?;
    set(&guest, Target::Organiser(id), follow).await?;
    Ok(guest.told(&format!("/organisers/{id}"), words(&organiser.name, follow)))
}

async fn set(guest: &Guest, target: Target, follow: bool) -> Result {
    let (cx, me) = (&guest.cx, guest.member()?.id);
    let tx = cx.db.begin().await?;
    let is_changed = match follow {
        true => follows::follow(&tx, Stamp::new(&cx.ids, &cx.clock), me, target).await?,
        false => follows::unfollow(&tx, me, target).await?,
    };
    if is_changed {
        cx.queue.push_in(&tx, Count { counted: Counted::followers(target) }).await?;
        cx.queue.push_in(&tx, Count { counted: Counted::Following(me) }).await?;
    }
    Ok(tx.commit().await?)
}

fn words(name: &str, follow: bool) -> String {
    match follow {
        true => format!("You follow {name}. What they do shows up on your timeline."),
        false => format!("You no longer follow {name}."),
    }
}
