//! Lists: browsing, searching, discussions, follows and timelines, page by page.

use crate::house::House;
use boxoffice::models::{
    Comment, Cursor, Event, Page, Target, comments, counters,
    counters::Counted,
    events,
    events::{Filter, Form, When},
    facets, follows, organisers, reports, search, timeline,
    timeline::Entry,
    users,
};

const TODAY: &str = "2026-01-01";

fn form(name: &str, starts_on: &str, topic: &str, city: &str, country: &str) -> Form {
    Form {
        name: name.into(),
        starts_on: starts_on.into(),
        topic: topic.into(),
        city: city.into(),
        country: country.into(),
        ..Form::default()
    }
}

fn names(page: &Page<Event>) -> Vec<&str> {
    page.items.iter().map(|event| event.name.as_str()).collect()
}

/// Reads a list to its end, `limit` at a time.
async fn all<T, F>(limit: u64, mut page: impl FnMut(Option<Cursor>, u64) -> F) -> Vec<T>
where
    F: Future<Output = Page<T>>,
{
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let some = page(after.take(), limit).await;
        assert!(some.items.len() as u64 <= limit);
        assert!(some.next.is_none() || some.items.len() as u64 == limit);
        items.extend(some.items);
        match some.next {
            // As it travels in a link.
            Some(next) => after = Some(next.to_string().parse().unwrap()),
            None => return items,
        }
    }
}

async fn year(house: &House) -> Vec<Event> {
    let organiser = house.organiser("olga").await;
    let mut all = Vec::new();
    for number in 0..40_u32 {
        // Several a day, some in the past, entered in no order.
        let day = (number * 7) % 20 + 1;
        let month = if number % 4 == 0 { "2025-11" } else { "2026-02" };
        let topic = ["rust", "data"][number as usize % 2];
        let city = ["Berlin", "Lyon"][number as usize / 2 % 2];
        let country = ["Germany", "France"][number as usize / 2 % 2];
        let form = form(&format!("E{number}"), &format!("{month}-{day:02}"), topic, city, country);
        let form = Form { name: format!("Event {number}"), ..form };
        all.push(house.event(&organiser, form).await);
    }
    all
}

#[tokio::test]
async fn every_event_is_on_exactly_one_page_in_the_order_of_days() {
    let house = House::open().await;
    let events = year(&house).await;
    for when in [When::From(TODAY), When::Before(TODAY)] {
        for filter in [
            Filter::default(),
            Filter { topic: Some("rust".into()), ..Filter::default() },
            Filter { country: Some("France".into()), ..Filter::default() },
            Filter { city: Some("Berlin".into()), topic: Some("data".into()), ..Filter::default() },
            Filter { organiser_id: events[0].organiser_id, ..Filter::default() },
            Filter { topic: Some("none".into()), ..Filter::default() },
        ] {
            let is =
                |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w == value);
            let mut wanted: Vec<&Event> = events
                .iter()
                .filter(|event| match when {
                    When::From(day) => *event.starts_on >= *day,
                    When::Before(day) => *event.starts_on < *day,
                })
                .filter(|event| is(&filter.topic, &event.topic) && is(&filter.city, &event.city))
                .filter(|event| is(&filter.country, &event.country))
                .collect();
            wanted.sort_by_key(|event| (&event.starts_on, event.id));
            if matches!(when, When::Before(_)) {
                wanted.reverse();
            }
            for limit in [1, 3, 7, 100] {
                let (db, filter) = (&house.cx.db, &filter);
                let got = all(limit, |after, limit| async move {
                    events::browse(db, filter, when, after.as_ref(), limit).await.unwrap()
                });
                assert_eq!(got.await.iter().collect::<Vec<_>>(), wanted, "{filter:?} by {limit}");
            }
        }
    }
    house.site.finish().await;
}

#[tokio::test]
async fn search_finds_every_word_from_its_beginning_next_events_first() {
    let house = House::open().await;
    let organiser = house.organiser("olga").await;
    for form in [
        form("RustFest", "2026-06-01", "rust", "Zürich", "Switzerland"),
        form("Rust Nation", "2026-03-01", "rust", "London", "U.K."),
        form("EuroRust", "2025-10-09", "rust", "Paris", "France"),
        form("RustConf", "2024-09-10", "rust", "Montréal", "Canada"),
        form("PyCon", "2026-05-01", "python", "London", "U.K."),
        form("C++ now", "2026-05-02", "cpp", "Aspen", "U.S.A."),
    ] {
        house.event(&organiser, form).await;
    }
    let db = &house.cx.db;
    for (query, wanted) in [
        ("rust", &["Rust Nation", "RustFest", "EuroRust", "RustConf"][..]),
        ("RUST lond", &["Rust Nation"]),
        ("zurich", &["RustFest"]),
        ("Zürich", &["RustFest"]),
        ("montreal rust", &["RustConf"]),
        ("london", &["Rust Nation", "PyCon"]),
        ("c++", &["C++ now"]),
        ("rust python", &[]),
        ("", &[]),
        ("%_'\"; drop table", &[]),
        ("nothing", &[]),
    ] {
        let page = search::find(db, query, TODAY, None, 10).await.unwrap();
        assert_eq!(names(&page), wanted, "{query}");
        let one_by_one = all(1, |after, limit| async move {
            search::find(db, query, TODAY, after.as_ref(), limit).await.unwrap()
        });
        let one_by_one = one_by_one.await;
        assert_eq!(
            one_by_one.iter().map(|event| &*event.name).collect::<Vec<_>>(),
            wanted,
            "{query}"
        );
    }
    house.site.finish().await;
}

#[tokio::test]
async fn an_edit_writes_what_changed_and_search_follows() {
    let house = House::open().await;
    let db = &house.cx.db;
    let organiser = house.organiser("olga").await;
    let event =
        house.event(&organiser, form("Old Name", "2026-06-01", "rust", "Berlin", "Germany")).await;
    // Somebody else changes another column meanwhile, which the edit must not undo.
    let mut form = Form::of(&event, 50);
    form.name = "New Name".into();
    let other = Form { description: "From a colleague".into(), ..Form::of(&event, 50) };
    for (form, changed) in [(&other, "description"), (&form, "name")] {
        let tx = db.begin().await.unwrap();
        let edited = events::edit(&tx, &event, &form.check().unwrap()).await.unwrap().unwrap();
        assert_eq!(edited.columns, [changed]);
        search::refresh(&tx, event.id).await.unwrap();
        tx.commit().await.unwrap();
    }
    let now = events::find(db, event.id).await.unwrap().unwrap();
    assert_eq!((&*now.name, &*now.description), ("New Name", "From a colleague"));
    assert_eq!(names(&search::find(db, "new", TODAY, None, 9).await.unwrap()), ["New Name"]);
    assert!(search::find(db, "old", TODAY, None, 9).await.unwrap().items.is_empty());
    let draft = Form { published: None, ..Form::of(&now, 50) };
    let tx = db.begin().await.unwrap();
    events::edit(&tx, &now, &draft.check().unwrap()).await.unwrap().unwrap();
    search::refresh(&tx, event.id).await.unwrap();
    tx.commit().await.unwrap();
    assert!(search::find(db, "new", TODAY, None, 9).await.unwrap().items.is_empty());
    let listed = events::browse(db, &Filter::default(), When::From(TODAY), None, 9).await.unwrap();
    assert!(listed.items.is_empty());
    let own = events::of_organiser(db, organiser.id, None, 9).await.unwrap();
    assert_eq!(names(&own), ["New Name"]);
    house.site.finish().await;
}

#[tokio::test]
async fn a_capacity_below_what_is_taken_is_refused() {
    let house = House::open().await;
    let (event, ana) = (house.sale(5, "").await, house.user("ana").await);
    house.desk().hold(crate::house::want(&event, &ana, 4)).await.unwrap();
    for (capacity, is_fine) in [("3", false), ("4", true), ("9", true)] {
        let form = Form { capacity: capacity.into(), ..Form::of(&event, 5) };
        let tx = house.cx.db.begin().await.unwrap();
        let edited = events::edit(&tx, &event, &form.check().unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(edited.is_ok(), is_fine, "{capacity}: {edited:?}");
    }
    house.site.finish().await;
}

#[tokio::test]
async fn a_discussion_is_read_in_pages_without_what_moderators_hid() {
    let house = House::open().await;
    let db = &house.cx.db;
    let (event, ana) = (house.sale(5, "").await, house.user("ana").await);
    let mut written: Vec<Comment> = Vec::new();
    for number in 0..25 {
        let body = format!(" Comment {number}\r\nwith a second line ");
        written.push(
            comments::add(db, house.stamp(), event.id, ana.id, &body).await.unwrap().unwrap(),
        );
    }
    assert_eq!(written[3].body, "Comment 3\nwith a second line");
    for body in ["", " \n ", &"x".repeat(4_001)] {
        assert!(comments::add(db, house.stamp(), event.id, ana.id, body).await.unwrap().is_err());
    }
    let ben = house.user("ben").await;
    assert!(reports::add(db, house.stamp(), written[7].id, ben.id, "rude").await.unwrap());
    assert!(!reports::add(db, house.stamp(), written[7].id, ben.id, "rude").await.unwrap());
    assert!(reports::add(db, house.stamp(), written[8].id, ben.id, "").await.unwrap());
    let open = reports::open(db, None, 10).await.unwrap();
    let reported = open.items.iter().map(|(_, comment)| comment.id).collect::<Vec<_>>();
    assert_eq!(reported, [written[7].id, written[8].id]);
    reports::settle(db, written[7].id, true).await.unwrap();
    reports::settle(db, written[8].id, false).await.unwrap();
    assert!(reports::open(db, None, 10).await.unwrap().items.is_empty());
    let got = all(4, |after, limit| async move {
        comments::of_event(db, event.id, after.as_ref(), limit).await.unwrap()
    });
    let got: Vec<i64> = got.await.iter().map(|comment| comment.id).collect();
    let mut wanted: Vec<i64> = written.iter().rev().map(|comment| comment.id).collect();
    wanted.retain(|id| *id != written[7].id);
    assert_eq!(got, wanted);
    let count = boxoffice::tasks::Count { counted: Counted::Comments(event.id) };
    house.cx.queue.push(count).await.unwrap();
    house.site.run_tasks().await;
    assert_eq!(counters::of(db, Counted::Comments(event.id)).await.unwrap(), 24);
    house.site.finish().await;
}

#[tokio::test]
async fn a_timeline_has_everything_of_those_who_are_followed_and_nothing_else() {
    let house = House::open().await;
    let db = &house.cx.db;
    let reader = house.user("reader").await;
    let (talker, stranger) = (house.user("talker").await, house.user("stranger").await);
    let (own, other) = (house.organiser("olga").await, house.organiser("otto").await);
    for target in [Target::Person(talker.id), Target::Organiser(own.id)] {
        assert!(follows::follow(db, house.stamp(), reader.id, target).await.unwrap());
        assert!(!follows::follow(db, house.stamp(), reader.id, target).await.unwrap());
        assert!(follows::is_following(db, reader.id, target).await.unwrap());
    }
    assert!(
        !follows::follow(db, house.stamp(), reader.id, Target::Person(reader.id)).await.unwrap()
    );
    let mut wanted = Vec::new();
    for number in 0..12 {
        let day = format!("2026-03-{:02}", number + 1);
        let name = format!("Event {number}");
        let shown = house.event(&own, form(&name, &day, "rust", "Berlin", "Germany")).await;
        let unseen = house.event(&other, form(&name, &day, "rust", "Berlin", "Germany")).await;
        let said = comments::add(db, house.stamp(), unseen.id, talker.id, "Hello").await.unwrap();
        comments::add(db, house.stamp(), shown.id, stranger.id, "Hello").await.unwrap().unwrap();
        wanted.extend([shown.id, said.unwrap().id]);
    }
    wanted.reverse();
    for limit in [1, 5, 100] {
        let got = all(limit, |after, limit| async move {
            timeline::of(db, reader.id, after.as_ref(), limit).await.unwrap()
        });
        assert_eq!(got.await.iter().map(Entry::id).collect::<Vec<_>>(), wanted);
    }
    assert!(follows::unfollow(db, reader.id, Target::Person(talker.id)).await.unwrap());
    assert!(!follows::unfollow(db, reader.id, Target::Person(talker.id)).await.unwrap());
    let left = timeline::of(db, reader.id, None, 100).await.unwrap();
    assert_eq!(left.items.len(), 12);
    let counted = Counted::followers(Target::Organiser(own.id));
    assert_eq!(counters::refill(db, counted).await.unwrap(), 1);
    let followers = follows::followers(db, Target::Organiser(own.id), None, 10).await.unwrap();
    assert_eq!(followers.items, [reader.id]);
    house.site.finish().await;
}

#[tokio::test]
async fn facets_count_what_is_to_come() {
    let house = House::open().await;
    year(&house).await;
    house.cx.queue.push(boxoffice::tasks::CountFacets {}).await.unwrap();
    house.site.run_tasks().await;
    let topics = facets::list(&house.cx.db, facets::Kind::Topic, 10).await.unwrap();
    let topics: Vec<_> = topics.iter().map(|topic| (&*topic.name, topic.events)).collect();
    assert_eq!(topics, [("data", 20), ("rust", 10)]);
    let cities = facets::list(&house.cx.db, facets::Kind::City, 1).await.unwrap();
    assert_eq!(cities.len(), 1);
    house.site.finish().await;
}

#[tokio::test]
async fn a_profile_keeps_what_was_not_edited() {
    let house = House::open().await;
    let db = &house.cx.db;
    let ana = house.user("ana").await;
    users::edit_profile(db, &ana, " Ana A. ", "Hello\r\nthere").await.unwrap().unwrap();
    let now = users::find_by_username(db, "ANA").await.unwrap().unwrap();
    assert_eq!((&*now.name, &*now.bio, &*now.email), ("Ana A.", "Hello\nthere", "ana@example.com"));
    let problems =
        users::edit_profile(db, &ana, "", &"x".repeat(3_000)).await.unwrap().unwrap_err();
    assert_eq!(problems.iter().map(|(field, _)| field).collect::<Vec<_>>(), ["name", "bio"]);
    let again = organisers::ensure(db, house.stamp(), &ana).await.unwrap();
    assert_eq!(organisers::ensure(db, house.stamp(), &ana).await.unwrap(), again);
    house.site.finish().await;
}
