//! What a database consists of: tables, columns, keys, counters.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::value::{Class, Column, quoted};

/// A table as one of the two databases has it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The columns of the primary key, in its order.
    pub(super) key: Vec<String>,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The names of all tables, sorted.
pub(super) async fn names(db: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT relname::text AS name FROM pg_class WHERE relnamespace = \
             current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
        }
        DbBackend::MySql => {
            "SELECT CAST(table_name AS CHAR) AS name FROM information_schema.tables \
             WHERE table_schema = database() AND table_type = 'BASE TABLE'"
        }
        _ => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'"
        }
    };
    let mut names = texts(db, sql, &[]).await?;
    names.sort_unstable();
    Ok(names)
}

pub(super) async fn table(db: &impl ConnectionTrait, name: &str) -> Result<Table, DbErr> {
    let backend = db.get_database_backend();
    // SQLite's and MySQL's name of the type is what it is called; PostgreSQL has two.
    let sql = match backend {
        DbBackend::Postgres => {
            "SELECT a.attname::text AS name, t.typname::text AS kind, \
             format_type(a.atttypid, a.atttypmod) AS type, (a.attgenerated <> '')::int::bigint AS made \
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             WHERE a.attrelid = quote_ident($1)::regclass AND a.attnum > 0 AND NOT a.attisdropped \
             ORDER BY a.attnum"
        }
        DbBackend::MySql => {
            "SELECT CAST(column_name AS CHAR) AS name, CAST(column_type AS CHAR) AS kind, \
             CAST(column_type AS CHAR) AS type, \
             CAST(extra LIKE '%GENERATED%' AS SIGNED) AS made \
             FROM information_schema.columns WHERE table_schema = database() AND table_name = ? \
             ORDER BY ordinal_position"
        }
        _ => {
            "SELECT name, lower(type) AS kind, lower(type) AS type, \
             CASE WHEN hidden IN (2, 3) THEN 1 ELSE 0 END AS made \
             FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid"
        }
    };
    let mut columns = Vec::new();
    for row in db.query_all_raw(Statement::from_sql_and_values(backend, sql, [name.into()])).await?
    {
        let kind: String = row.try_get("", "kind")?;
        columns.push(Column {
            name: row.try_get("", "name")?,
            class: Class::of(backend, &kind.to_lowercase()),
            sql_type: row.try_get("", "type")?,
            is_generated: row.try_get::<i64>("", "made")? != 0,
        });
    }
    let sql = match backend {
        DbBackend::Postgres => {
            "SELECT a.attname::text AS name FROM pg_index i \
             CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE i.indrelid = quote_ident($1)::regclass AND i.indisprimary ORDER BY k.place"
        }
        DbBackend::MySql => {
            "SELECT CAST(column_name AS CHAR) AS name FROM information_schema.statistics \
             WHERE table_schema = database() AND table_name = ? AND index_name = 'PRIMARY' \
             ORDER BY seq_in_index"
        }
        _ => "SELECT name FROM pragma_table_xinfo(?) WHERE pk > 0 ORDER BY pk",
    };
    let key = texts(db, sql, &[name]).await?;
    Ok(Table { name: name.to_owned(), columns, key })
}

/// Rows that break a foreign key: only SQLite can have them.
pub(super) async fn orphans(db: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    if db.get_database_backend() != DbBackend::Sqlite {
        return Ok(Vec::new());
    }
    texts(
        db,
        "SELECT DISTINCT \"table\" || ' of ' || parent AS name FROM pragma_foreign_key_check",
        &[],
    )
    .await
}

/// What the next row of a table would be numbered, where the engine remembers it.
pub(super) async fn next_number(
    db: &impl ConnectionTrait,
    table: &Table,
) -> Result<Option<i64>, DbErr> {
    let backend = db.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => {
            let Some((_, sequence)) = sequence(db, table).await? else { return Ok(None) };
            let sql = format!(
                "SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END AS next \
                 FROM {sequence}"
            );
            return number(db, &sql, &[]).await;
        }
        DbBackend::MySql => {
            "SELECT CAST(auto_increment AS SIGNED) AS next FROM information_schema.tables \
             WHERE table_schema = database() AND table_name = ?"
        }
        _ => {
            let has = "SELECT count(*) AS next FROM sqlite_master WHERE name = 'sqlite_sequence'";
            if number(db, has, &[]).await? == Some(0) {
                return Ok(None);
            }
            "SELECT seq + 1 AS next FROM sqlite_sequence WHERE name = ?"
        }
    };
    number(db, sql, &[&table.name]).await
}

/// Sees to it that the next row gets at least this number.
pub(super) async fn set_next_number(
    db: &impl ConnectionTrait,
    table: &Table,
    next: i64,
) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    let name = quoted(backend, &table.name);
    match backend {
        DbBackend::Postgres => {
            let Some((column, sequence)) = sequence(db, table).await? else { return Ok(()) };
            let column = quoted(backend, &column);
            let sql = format!(
                "SELECT setval('{}'::regclass, greatest({next}, (SELECT coalesce(max({column}), 0) + 1 \
                 FROM {name})), false) AS next",
                sequence.replace('\'', "''")
            );
            number(db, &sql, &[]).await?;
        }
        // It never goes below what the rows have.
        DbBackend::MySql => {
            db.execute_unprepared(&format!("ALTER TABLE {name} AUTO_INCREMENT = {next}")).await?;
        }
        _ => {
            let has = "SELECT count(*) AS next FROM sqlite_master WHERE type = 'table' AND name = ? \
                       AND lower(sql) LIKE '%autoincrement%'";
            if number(db, has, &[&table.name]).await? == Some(1) {
                let seq = next - 1;
                let change = "DELETE FROM sqlite_sequence WHERE name = ?";
                let values = [table.name.as_str().into()];
                db.execute_raw(Statement::from_sql_and_values(backend, change, values)).await?;
                let change = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)";
                let values = [table.name.as_str().into(), seq.into()];
                db.execute_raw(Statement::from_sql_and_values(backend, change, values)).await?;
            }
        }
    }
    Ok(())
}

/// PostgreSQL's foreign keys: what drops each, and what makes it again.
pub(super) async fn foreign_keys(
    db: &impl ConnectionTrait,
) -> Result<Vec<(String, String)>, DbErr> {
    let backend = db.get_database_backend();
    if backend != DbBackend::Postgres {
        return Ok(Vec::new());
    }
    let sql = "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop, \
               format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, \
               pg_get_constraintdef(oid)) AS make \
               FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 \
               AND connamespace = current_schema()::regnamespace ORDER BY oid";
    let rows = db.query_all_raw(Statement::from_string(backend, sql)).await?;
    rows.iter().map(|row| Ok((row.try_get("", "drop")?, row.try_get("", "make")?))).collect()
}

/// The column that PostgreSQL numbers by itself, and its sequence.
async fn sequence(
    db: &impl ConnectionTrait,
    table: &Table,
) -> Result<Option<(String, String)>, DbErr> {
    let sql = "SELECT a.attname::text AS name, \
               pg_get_serial_sequence(quote_ident($1), a.attname) AS sequence FROM pg_attribute a \
               WHERE a.attrelid = quote_ident($1)::regclass AND a.attnum > 0 AND NOT a.attisdropped \
               AND pg_get_serial_sequence(quote_ident($1), a.attname) IS NOT NULL LIMIT 1";
    let statement =
        Statement::from_sql_and_values(DbBackend::Postgres, sql, [table.name.as_str().into()]);
    let row = db.query_one_raw(statement).await?;
    row.map(|row| Ok((row.try_get("", "name")?, row.try_get("", "sequence")?))).transpose()
}

async fn number(
    db: &impl ConnectionTrait,
    sql: &str,
    values: &[&str],
) -> Result<Option<i64>, DbErr> {
    let values = values.iter().map(|value| (*value).into());
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let row = db.query_one_raw(statement).await?;
    row.map_or(Ok(None), |row| row.try_get("", "next"))
}

async fn texts(
    db: &impl ConnectionTrait,
    sql: &str,
    values: &[&str],
) -> Result<Vec<String>, DbErr> {
    let values = values.iter().map(|value| (*value).into());
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.query_all_raw(statement).await?.iter().map(|row| row.try_get("", "name")).collect()
}
