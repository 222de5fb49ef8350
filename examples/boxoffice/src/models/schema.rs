//! The tables, written with portable statements: SQLite today, PostgreSQL and MySQL unchanged.
//!
//! Plain on purpose, so that any other program (a Django project, say) can read the same file:
//! one `id` a table, dates as `YYYY-MM-DD`, moments as milliseconds since 1970 UTC, money in the
//! currency's smallest unit, no triggers and no foreign keys across what may be partitioned.

use sea_orm::{
    DbBackend,
    sea_query::{ColumnDef, Index, IndexCreateStatement, IndexOrder, Table, TableCreateStatement},
};
use throng::db::{Migration, Schema};

/// The site's tables, for `App::migrations`.
pub const MIGRATIONS: &[Migration] = &[
    Migration::new("boxoffice_0001_tables", |schema: &mut Schema| {
        for table in tables(schema.backend()) {
            schema.table(table);
        }
        for index in indexes() {
            schema.index(index);
        }
    }),
    Migration::new("boxoffice_0002_views", |schema: &mut Schema| {
        let backend = schema.backend();
        let event = key("event_id", backend);
        schema.table(table("views").col(event).col(number("total")).take());
    }),
];

/// The tables that the site began with, in the dialect's own id type.
#[must_use]
pub fn tables(backend: DbBackend) -> Vec<TableCreateStatement> {
    let id = || id(backend);
    let by_key = |name| by_key(name, backend);
    vec![
        table("users")
            .col(id())
            .col(text("username", 150))
            .col(text("email", 254))
            .col(text("password", 128))
            .col(text("name", 150))
            .col(long_text("bio"))
            .col(flag("is_staff"))
            .col(flag("is_active"))
            .col(number("joined_at_ms"))
            .take(),
        by_key("sign_in_tries")
            .col(text("who", 64).primary_key())
            .col(count("tries"))
            .col(number("since_ms"))
            .take(),
        table("organisers")
            .col(id())
            .col(text("name", 200))
            .col(text("website", 500))
            .col(long_text("about"))
            .col(maybe("owner_id"))
            .take(),
        table("events")
            .col(id())
            .col(text("name", 200))
            .col(text("url", 500))
            .col(text("starts_on", 10))
            .col(text("ends_on", 10))
            .col(text("city", 100))
            .col(text("country", 100))
            .col(flag("online"))
            .col(text("locales", 50))
            .col(text("topic", 50))
            .col(long_text("description"))
            .col(maybe("organiser_id"))
            .col(number("price_cents"))
            .col(text("currency", 3))
            .col(small("status"))
            .col(number("created_at_ms"))
            .col(ColumnDef::new("import_key").string_len(64))
            .take(),
        table("seats")
            .col(key("event_id", backend))
            .col(count("capacity"))
            .col(count("sold"))
            .col(count("held"))
            .take(),
        table("holds")
            .col(id())
            .col(number("event_id"))
            .col(number("user_id"))
            .col(count("quantity"))
            .col(number("expires_at_ms"))
            .col(flag("is_paying"))
            .col(text("attendee", 150).default(""))
            .col(text("email", 254).default(""))
            .take(),
        table("orders")
            .col(id())
            .col(text("number", 16))
            .col(number("event_id"))
            .col(number("user_id"))
            .col(number("hold_id"))
            .col(count("quantity"))
            .col(number("amount_cents"))
            .col(text("currency", 3))
            .col(text("attendee", 150))
            .col(text("email", 254))
            .col(text("payment", 100))
            .col(small("status"))
            .col(number("created_at_ms"))
            .col(maybe("mailed_at_ms"))
            .take(),
        by_key("stand_in_charges")
            .col(text("idempotency_key", 40).primary_key())
            .col(small("state"))
            .col(number("amount_cents"))
            .col(text("currency", 3))
            .take(),
        table("tickets")
            .col(id())
            .col(number("order_id"))
            .col(number("event_id"))
            .col(count("place"))
            .col(maybe("used_at_ms"))
            .take(),
        table("comments")
            .col(id())
            .col(number("event_id"))
            .col(number("author_id"))
            .col(long_text("body"))
            .col(flag("is_hidden"))
            .col(number("created_at_ms"))
            .take(),
        table("reports")
            .col(id())
            .col(number("comment_id"))
            .col(number("reporter_id"))
            .col(text("reason", 500))
            .col(flag("is_settled"))
            .col(number("created_at_ms"))
            .take(),
        table("follows")
            .col(id())
            .col(number("follower_id"))
            .col(small("kind"))
            .col(number("target_id"))
            .col(number("created_at_ms"))
            .take(),
        by_key("event_terms")
            .col(term(backend))
            .col(text("starts_on", 10))
            .col(number("event_id"))
            .primary_key(Index::create().col("term").col("starts_on").col("event_id"))
            .take(),
        by_key("terms").col(term(backend).primary_key()).col(count("events")).take(),
        by_key("facets")
            .col(small("kind"))
            .col(text("name", 100))
            .col(count("events"))
            .primary_key(Index::create().col("kind").col("name"))
            .take(),
        by_key("counters")
            .col(small("kind"))
            .col(number("target_id"))
            .col(count("total"))
            .primary_key(Index::create().col("kind").col("target_id"))
            .take(),
    ]
}

/// Every index of the site. Each serves a page, and `plans` in the tests proves it.
#[must_use]
pub fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        unique("users", &["username"]),
        unique("users", &["email"]),
        index("organisers", &["owner_id"]),
        index("organisers", &["website"]),
        index("events", &["starts_on", "id"]),
        index("events", &["topic", "starts_on", "id"]),
        index("events", &["country", "starts_on", "id"]),
        index("events", &["city", "starts_on", "id"]),
        index("events", &["organiser_id", "starts_on", "id"]),
        index("events", &["organiser_id", "id"]),
        unique("events", &["import_key"]),
        index("holds", &["expires_at_ms", "id"]),
        index("holds", &["event_id", "expires_at_ms"]),
        index("holds", &["user_id", "id"]),
        unique("orders", &["number"]),
        unique("orders", &["hold_id"]),
        index("orders", &["user_id", "id"]),
        index("orders", &["event_id", "id"]),
        index("tickets", &["order_id", "place"]),
        index("comments", &["event_id", "id"]),
        index("comments", &["author_id", "id"]),
        unique("reports", &["comment_id", "reporter_id"]),
        index("reports", &["is_settled", "id"]),
        unique("follows", &["follower_id", "kind", "target_id"]),
        index("follows", &["kind", "target_id", "id"]),
        index("event_terms", &["event_id", "term"]),
        index("sign_in_tries", &["since_ms"]),
    ]
}

fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(name).take()
}

/// A table that is read by its key alone. On SQLite it is kept in the key's order, once.
fn by_key(name: &'static str, backend: DbBackend) -> TableCreateStatement {
    let mut table = table(name);
    if backend == DbBackend::Sqlite {
        table.extra("WITHOUT ROWID");
    }
    table
}

fn index(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(format!("{table}_by_{}", columns.join("_"))).table(table);
    for column in columns {
        index.col((*column, IndexOrder::Asc));
    }
    index
}

fn unique(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    index(table, columns).unique().take()
}

/// The primary key. On SQLite it must be `integer`, which makes it the row's own address.
fn key(name: &'static str, backend: DbBackend) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    if backend == DbBackend::Sqlite {
        column.integer()
    } else {
        column.big_integer()
    };
    column.not_null().primary_key().take()
}

fn id(backend: DbBackend) -> ColumnDef {
    key("id", backend)
}

fn text(name: &'static str, length: u32) -> ColumnDef {
    ColumnDef::new(name).string_len(length).not_null().take()
}

/// A word of the search index. Compared byte by byte on every database, so that the words which
/// begin with some letters are one range.
fn term(backend: DbBackend) -> ColumnDef {
    let mut column = text("term", 40);
    match backend {
        DbBackend::Postgres => column.extra("COLLATE \"C\""),
        DbBackend::MySql => column.extra("COLLATE utf8mb4_bin"),
        _ => &mut column,
    };
    column
}

fn long_text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn maybe(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().take()
}

fn count(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).integer().not_null().default(0).take()
}

fn small(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).small_integer().not_null().default(0).take()
}

fn flag(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().default(false).take()
}
