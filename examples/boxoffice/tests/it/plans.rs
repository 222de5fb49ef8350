//! How SQLite reads what pages ask for: by an index, in its order, never a whole table.

use boxoffice::models::{
    Cursor, Target, comments, counters,
    counters::Counted,
    events,
    events::{Filter, When},
    facets, follows, holds, orders, organisers, reports, search, seats, tickets, timeline, users,
};
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    entity::prelude::async_trait::async_trait,
};
use std::sync::Mutex;
use throng::db::Db;

use crate::house::House;

/// A connection that notes how each query would be run.
struct Explained {
    db: Db,
    plans: Mutex<Vec<(String, Vec<String>)>>,
}

impl Explained {
    async fn note(&self, statement: &Statement) -> Result<(), DbErr> {
        let sql = format!("EXPLAIN QUERY PLAN {}", statement.sql);
        let explain = match &statement.values {
            Some(values) => {
                Statement::from_sql_and_values(DbBackend::Sqlite, sql, values.0.clone())
            }
            None => Statement::from_string(DbBackend::Sqlite, sql),
        };
        let rows = self.db.query_all_raw(explain).await?;
        let steps = rows.iter().map(|row| row.try_get("", "detail")).collect::<Result<_, _>>()?;
        self.plans.lock().unwrap().push((statement.sql.clone(), steps));
        Ok(())
    }
}

#[async_trait]
impl ConnectionTrait for Explained {
    fn get_database_backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.note(&statement).await?;
        self.db.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.db.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.note(&statement).await?;
        self.db.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.note(&statement).await?;
        self.db.query_all_raw(statement).await
    }
}

/// What SQLite says when it reads everything, or sorts what it has read.
fn is_slow(step: &str) -> bool {
    let is_derived = ["SCAN newest", "SCAN (subquery"].iter().any(|start| step.starts_with(start));
    step.starts_with("SCAN") && !is_derived || step.starts_with("USE TEMP B-TREE")
}

#[tokio::test]
async fn no_page_scans_or_sorts_a_table() {
    let house = House::open().await;
    let organiser = house.organiser("olga").await;
    for number in 0..60 {
        let form = events::Form {
            name: format!("Rust meeting {number}"),
            starts_on: format!("2026-02-{:02}", number % 28 + 1),
            ..events::Form::default()
        };
        let event = house.event(&organiser, form).await;
        let db = &house.cx.db;
        comments::add(db, house.stamp(), event.id, organiser.id, "Hello").await.unwrap().unwrap();
    }
    let reader = house.user("reader").await;
    for target in [Target::Person(organiser.id), Target::Organiser(organiser.id)] {
        follows::follow(&house.cx.db, house.stamp(), reader.id, target).await.unwrap();
    }
    let db = &Explained { db: house.cx.db.clone(), plans: Mutex::default() };

    let day = "2026-02-03";
    let cursor = Cursor { day: "2026-02-05".into(), id: 1 << 60 };
    let filters = [
        Filter::default(),
        Filter { topic: Some("rust".into()), ..Filter::default() },
        Filter { country: Some("Switzerland".into()), ..Filter::default() },
        Filter {
            city: Some("Zürich".into()),
            country: Some("Switzerland".into()),
            ..Filter::default()
        },
        Filter { topic: Some("rust".into()), city: Some("Zürich".into()), ..Filter::default() },
        Filter { organiser_id: Some(organiser.id), ..Filter::default() },
    ];
    for filter in &filters {
        for when in [When::From(day), When::Before(day)] {
            for after in [None, Some(&cursor)] {
                events::browse(db, filter, when, after, 10).await.unwrap();
            }
        }
    }
    let id = Some(&cursor);
    for after in [None, id] {
        search::find(db, "rust meet", day, after, 10).await.unwrap();
        events::of_organiser(db, organiser.id, after, 10).await.unwrap();
        comments::of_event(db, 7, after, 10).await.unwrap();
        comments::of_author(db, 7, after, 10).await.unwrap();
        orders::of_user(db, 7, after, 10).await.unwrap();
        orders::of_event(db, 7, after, 10).await.unwrap();
        reports::open(db, after, 10).await.unwrap();
        follows::followers(db, Target::Person(7), after, 10).await.unwrap();
        timeline::of(db, reader.id, after, 10).await.unwrap();
    }
    events::find(db, 7).await.unwrap();
    events::find_many(db, [7, 8]).await.unwrap();
    seats::of(db, 7).await.unwrap();
    seats::of_many(db, [7, 8]).await.unwrap();
    users::find_by_username(db, "ana").await.unwrap();
    users::find_by_email(db, "ana@example.com").await.unwrap();
    users::find_many(db, [7, 8]).await.unwrap();
    organisers::find_many(db, [7, 8]).await.unwrap();
    organisers::of_owner(db, 7).await.unwrap();
    orders::find_by_number(db, "BX-00000-00000").await.unwrap();
    orders::of_hold(db, 7).await.unwrap();
    holds::of_user(db, 7).await.unwrap();
    tickets::of_order(db, 7).await.unwrap();
    tickets::of_orders(db, [7, 8]).await.unwrap();
    follows::is_following(db, 7, Target::Person(8)).await.unwrap();
    follows::of_follower(db, 7, 100).await.unwrap();
    counters::of(db, Counted::Comments(7)).await.unwrap();

    let plans = std::mem::take(&mut *db.plans.lock().unwrap());
    assert!(plans.len() > 60, "only {} queries were seen", plans.len());
    let slow: Vec<String> = plans
        .iter()
        .filter(|(sql, steps)| {
            // The words that begin with three letters are few, and are sorted by how common they are.
            let is_few = sql.contains("FROM \"terms\"");
            let is_slow = |step: &String| is_slow(step) && !(is_few && step.contains("ORDER BY"));
            steps.iter().any(is_slow)
        })
        .map(|(sql, steps)| format!("{sql}\n    {}", steps.join("\n    ")))
        .collect();
    assert!(slow.is_empty(), "{}", slow.join("\n"));

    // Facets are few, and sorted by how many events they have.
    facets::list(db, facets::Kind::Topic, 10).await.unwrap();
    let plans = std::mem::take(&mut *db.plans.lock().unwrap());
    assert!(plans[0].1.iter().any(|step| step.starts_with("SEARCH")), "{plans:?}");
    house.site.finish().await;
}
