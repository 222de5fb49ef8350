//! Rows that are made up: each from its number alone.

use std::collections::{HashMap, HashSet};

use jiff::{ToSpan, civil::Date, tz::TimeZone};
use throng::Ids;

use super::{Seed, dice::Dice, words};
use crate::models::{
    Comment, Event, Organiser, Seats, Target, User,
    counters::{self, Counted},
    events, follows,
};

/// Makes the rows of one seed and counts what pages show of them.
pub(super) struct Made {
    seed: u32,
    people: u32,
    events: u32,
    around: Date,
    around_ms: i64,
    password: String,
    follows: HashSet<(i64, Target)>,
    counts: HashMap<Counted, i32>,
}

impl Made {
    pub(super) fn new(seed: &Seed, around: Date, password: String) -> Self {
        let midnight = around.to_zoned(TimeZone::UTC).map(|day| day.timestamp());
        Self {
            seed: seed.seed,
            people: seed.people(),
            events: seed.events,
            around,
            around_ms: midnight.map_or(0, |midnight| midnight.as_millisecond()),
            password,
            follows: HashSet::new(),
            counts: HashMap::new(),
        }
    }

    /// The id of the first row of each kind.
    pub(super) fn first_id(&self) -> i64 {
        Ids::first_at_ms(YEAR_2020_MS + i64::from(self.seed) * MS_A_SEED)
    }

    /// A person, and every third one's organiser.
    pub(super) fn person(&self, number: u32) -> (User, Option<Organiser>) {
        let mut dice = Dice::new(self.seed, 1, number);
        let name = format!("{} {}", dice.pick(words::FIRST), dice.pick(words::LAST));
        let id = self.id(number);
        // Seed 1 has the plain names.
        let username = match self.seed {
            1 => format!("person{number}"),
            seed => format!("person{number}-{seed}"),
        };
        let user = User {
            id,
            email: format!("{username}@example.com"),
            username,
            password: self.password.clone(),
            name: name.clone(),
            bio: String::new(),
            is_staff: false,
            is_active: true,
            joined_at_ms: self.around_ms - i64::from(dice.below(700)) * DAY_MS,
        };
        let (website, about) = (String::new(), String::new());
        let organiser = Organiser { id, name, website, about, owner_id: Some(id) };
        (user, (number.is_multiple_of(PEOPLE_AN_ORGANISER)).then_some(organiser))
    }

    /// An event: three of four lie ahead, up to a year and a half away.
    pub(super) fn event(&self, number: u32) -> (Event, Seats) {
        let mut dice = Dice::new(self.seed, 2, number);
        let (city, country, currency) = dice.pick(words::CITIES);
        let (topic, title) = dice.pick(words::TOPICS);
        let is_ahead = dice.below(4) > 0;
        let days = i32::try_from(dice.popular(if is_ahead { 540 } else { 1_500 })).unwrap_or(0);
        let first = self.around.saturating_add(if is_ahead { days } else { -days - 1 }.days());
        let last = first.saturating_add(dice.pick(&[0, 0, 0, 1, 1, 2, 4]).days());
        let online = dice.below(8) == 0;
        let id = self.id(number);
        let organiser =
            dice.popular(self.people.div_ceil(PEOPLE_AN_ORGANISER)) * PEOPLE_AN_ORGANISER;
        let name = dice.pick(words::NAMES).replace("{t}", title).replace("{c}", city);
        let paragraphs = [dice.pick(words::ABOUT), dice.pick(words::ABOUT)];
        let event = Event {
            id,
            name,
            url: String::new(),
            starts_on: first.to_string(),
            ends_on: last.to_string(),
            city: city.to_owned(),
            country: country.to_owned(),
            online,
            locales: "EN".to_owned(),
            topic: topic.to_owned(),
            description: paragraphs.join("\n\n"),
            organiser_id: Some(self.id(organiser)),
            price_cents: dice.pick(&[0, 0, 900, 1_500, 2_500, 4_900, 12_000, 24_900]),
            currency: currency.to_owned(),
            status: events::Status::Published,
            created_at_ms: self.around_ms - i64::from(dice.below(400)) * DAY_MS,
            import_key: None,
        };
        let capacity = dice.pick(&[30, 50, 80, 120, 200, 400, 1_000]);
        (event, Seats { event_id: id, capacity, sold: 0, held: 0 })
    }

    pub(super) fn comment(&mut self, number: u32) -> Comment {
        let mut dice = Dice::new(self.seed, 3, number);
        let event_id = self.id(dice.popular(self.events));
        *self.counts.entry(Counted::Comments(event_id)).or_default() += 1;
        Comment {
            id: self.id(number),
            event_id,
            author_id: self.id(dice.popular(self.people)),
            body: dice.pick(words::COMMENTS).to_owned(),
            is_hidden: false,
            created_at_ms: self.around_ms - DAY_MS + i64::from(number) % DAY_MS,
        }
    }

    /// A follow; none when it fell on one that there is, or on oneself.
    pub(super) fn follow(&mut self, number: u32) -> Option<follows::Model> {
        let mut dice = Dice::new(self.seed, 4, number);
        let follower_id = self.id(dice.below(self.people));
        let target = match dice.below(2) {
            0 => Target::Person(self.id(dice.popular(self.people))),
            _ => {
                let organisers = self.people.div_ceil(PEOPLE_AN_ORGANISER);
                Target::Organiser(self.id(dice.popular(organisers) * PEOPLE_AN_ORGANISER))
            }
        };
        if target == Target::Person(follower_id) || !self.follows.insert((follower_id, target)) {
            return None;
        }
        *self.counts.entry(Counted::followers(target)).or_default() += 1;
        *self.counts.entry(Counted::Following(follower_id)).or_default() += 1;
        let (kind, target_id) = target.parts();
        let created_at_ms = self.around_ms - i64::from(dice.below(365)) * DAY_MS;
        Some(follows::Model { id: self.id(number), follower_id, kind, target_id, created_at_ms })
    }

    /// The counters of everything that was made.
    pub(super) fn counters(&self) -> Vec<counters::Model> {
        let row = |(counted, total): (&Counted, &i32)| counted.row(*total);
        self.counts.iter().map(row).collect()
    }

    fn id(&self, number: u32) -> i64 {
        self.first_id() + i64::from(number)
    }
}

const YEAR_2020_MS: i64 = 1_577_836_800_000;
/// Room for four thousand million rows of each kind.
const MS_A_SEED: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;
const PEOPLE_AN_ORGANISER: u32 = 3;
