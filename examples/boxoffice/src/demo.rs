//! What an empty site shows outside of production: events of the coming months, people and talk.

use jiff::{ToSpan, civil::Date};
use sea_orm::EntityTrait;
use throng::{Ctx, Result, config::Env};

use crate::{
    accounts::Hasher,
    models::{
        Comment, Event, Organiser, Seats, Target, User, bulk, comments, counters,
        counters::Counted, events, facets, follows, organisers, today, users,
    },
};

mod words;

/// Fills a site that has neither events nor people; of two processes that start at once, one does.
pub(crate) async fn seed_when_empty(cx: Ctx) -> Result {
    if cx.config().env == Env::Production || !is_empty(&cx.db.primary()).await? {
        return Ok(());
    }
    let password = cx.provided::<Hasher>()?.hash(PASSWORD).await?;
    let today = today(&cx.clock);
    let demo = Demo { cx: &cx, day: today.parse()?, password };
    let tx = cx.db.begin().await?;
    if !is_empty(&tx).await? {
        return Ok(());
    }
    let people: Vec<User> = words::PEOPLE.iter().enumerate().map(|row| demo.person(row)).collect();
    let organisers: Vec<Organiser> =
        words::ORGANISERS.iter().map(|row| demo.organiser(row, &people)).collect();
    let new: Vec<(Event, Seats)> =
        words::EVENTS.iter().map(|row| demo.event(row, &organisers)).collect();
    let talk: Vec<Comment> =
        words::TALK.iter().map(|row| demo.comment(row, &new, &people)).collect();
    let follows: Vec<follows::Model> = words::FOLLOWS
        .iter()
        .map(|&(follower, target)| demo.follow(follower, target, &people, &organisers))
        .collect();
    bulk::events(&tx, &new).await?;
    let counted: Vec<Counted> = follows
        .iter()
        .flat_map(|row| [Counted::followers(row.target()), Counted::Following(row.follower_id)])
        .chain(talk.iter().map(|row| Counted::Comments(row.event_id)))
        .collect();
    bulk::rows::<users::ActiveModel, _>(&tx, people).await?;
    bulk::rows::<organisers::ActiveModel, _>(&tx, organisers).await?;
    bulk::rows::<comments::ActiveModel, _>(&tx, talk).await?;
    bulk::rows::<follows::ActiveModel, _>(&tx, follows).await?;
    for counted in counted {
        counters::refill(&tx, counted).await?;
    }
    let counted = facets::count(&tx, &today).await?;
    facets::replace(&tx, counted).await?;
    tx.commit().await?;
    tracing::info!(
        "the site was empty and has a demo now; sign in as `ana` with the password `{PASSWORD}`"
    );
    Ok(())
}

async fn is_empty(db: &impl sea_orm::ConnectionTrait) -> Result<bool> {
    let has_event = events::Entity::find().one(db).await?.is_some();
    Ok(!has_event && users::Entity::find().one(db).await?.is_none())
}

struct Demo<'a> {
    cx: &'a Ctx,
    day: Date,
    password: String,
}

impl Demo<'_> {
    fn person(&self, (place, row): (usize, &words::Person)) -> User {
        User {
            id: self.cx.ids.next(),
            username: row.username.to_owned(),
            email: format!("{}@example.com", row.username),
            password: self.password.clone(),
            name: row.name.to_owned(),
            bio: row.bio.to_owned(),
            is_staff: place == 0,
            is_active: true,
            joined_at_ms: self.cx.clock.now_ms() - 90 * DAY_MS,
        }
    }

    fn organiser(&self, row: &words::Organiser, people: &[User]) -> Organiser {
        Organiser {
            id: self.cx.ids.next(),
            name: row.name.to_owned(),
            website: String::new(),
            about: row.about.to_owned(),
            owner_id: people.get(row.owner).map(|owner| owner.id),
        }
    }

    fn event(&self, row: &words::Event, organisers: &[Organiser]) -> (Event, Seats) {
        let id = self.cx.ids.next();
        let mut first = self.day.saturating_add(row.in_days.days());
        while row.weekday.is_some_and(|weekday| weekday != first.weekday()) {
            first = first.saturating_add(1.day());
        }
        let last = first.saturating_add((row.lasts - 1).days());
        let event = Event {
            id,
            name: row.name.to_owned(),
            url: String::new(),
            starts_on: first.to_string(),
            ends_on: last.to_string(),
            city: row.city.to_owned(),
            country: row.country.to_owned(),
            online: row.city.is_empty(),
            locales: "EN".to_owned(),
            topic: row.topic.to_owned(),
            description: row.about.to_owned(),
            organiser_id: organisers.get(row.organiser).map(|organiser| organiser.id),
            price_cents: row.price_cents,
            currency: row.currency.to_owned(),
            status: events::Status::Published,
            created_at_ms: self.cx.clock.now_ms() - 30 * DAY_MS,
            import_key: None,
        };
        (event, Seats { event_id: id, capacity: row.capacity, sold: 0, held: 0 })
    }

    fn comment(
        &self,
        &(event, author, hours_ago, body): &(usize, usize, i64, &str),
        events: &[(Event, Seats)],
        people: &[User],
    ) -> Comment {
        Comment {
            id: self.cx.ids.next(),
            event_id: events[event].0.id,
            author_id: people[author].id,
            body: body.to_owned(),
            is_hidden: false,
            created_at_ms: self.cx.clock.now_ms() - hours_ago * 3_600_000,
        }
    }

    fn follow(
        &self,
        follower: usize,
        target: words::Follows,
        people: &[User],
        organisers: &[Organiser],
    ) -> follows::Model {
        let target = match target {
            words::Follows::Person(place) => Target::Person(people[place].id),
            words::Follows::Organiser(place) => Target::Organiser(organisers[place].id),
        };
        let (kind, target_id) = target.parts();
        follows::Model {
            id: self.cx.ids.next(),
            follower_id: people[follower].id,
            kind,
            target_id,
            created_at_ms: self.cx.clock.now_ms() - 20 * DAY_MS,
        }
    }
}

/// Printed in the log at start, and never made in production.
const PASSWORD: &str = "boxoffice-demo";
const DAY_MS: i64 = 86_400_000;
