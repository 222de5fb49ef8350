//! The rows of one table: read in the order of its key, written in batches, and compared.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};
use serde::{Deserialize, Serialize};

use super::{
    catalog::Table,
    value::{Cell, Class, Column, quoted},
};
use crate::{Tx, error::refused};

/// A table of both databases, and how its columns go together.
#[derive(Debug)]
pub(super) struct Pair {
    from: Side,
    to: Side,
    /// The form of each column in which both sides are compared.
    forms: Vec<Class>,
    /// Which columns are the key, in its order.
    key: Vec<usize>,
}

/// One side: its columns are in the order of the pair.
#[derive(Debug)]
struct Side {
    backend: DbBackend,
    table: String,
    columns: Vec<Column>,
}

/// How far a table was read: so many rows, up to this key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) rows: u64,
    key: Vec<Cell>,
}

/// Rows in the order of the key.
pub(super) type Batch = Vec<Vec<Cell>>;

impl Pair {
    /// Puts two tables together, or says why that cannot be.
    pub(super) fn of(
        (from_engine, from): (DbBackend, &Table),
        (to_engine, to): (DbBackend, &Table),
    ) -> Result<Self, String> {
        let name = &from.name;
        if from.key.is_empty() {
            return Err(format!(
                "the table `{name}` has no primary key, so its rows cannot be told apart"
            ));
        }
        if let Some(column) = to
            .columns
            .iter()
            .find(|column| !column.is_generated && from.column(&column.name).is_none())
        {
            let column = &column.name;
            return Err(format!("the table `{name}` has a column `{column}` only in the target"));
        }
        let (mut ours, mut theirs, mut forms) = (Vec::new(), Vec::new(), Vec::new());
        for column in from.columns.iter().filter(|column| !column.is_generated) {
            let column_name = &column.name;
            let Some(other) = to.column(column_name).filter(|column| !column.is_generated) else {
                return Err(format!(
                    "the table `{name}` has a column `{column_name}` only in the source"
                ));
            };
            let Some(form) = column.class.with(other.class) else {
                let (one, two) = (&column.sql_type, &other.sql_type);
                return Err(format!(
                    "the column `{column_name}` of `{name}` is {one} in the source and {two} in the \
                     target, which do not go together"
                ));
            };
            ours.push(column.clone());
            theirs.push(other.clone());
            forms.push(form);
        }
        let place = |key: &String| ours.iter().position(|column| &column.name == key);
        let key: Option<Vec<usize>> = from.key.iter().map(place).collect();
        let key = key.ok_or_else(|| format!("the key of `{name}` is computed by the engine"))?;
        let side = |backend, columns| Side { backend, table: name.clone(), columns };
        let (from, to) = (side(from_engine, ours), side(to_engine, theirs));
        Ok(Self { from, to, forms, key })
    }

    pub(super) fn name(&self) -> &str {
        &self.from.table
    }

    /// The next rows of the source, and where they end.
    pub(super) async fn read(
        &self,
        db: &impl ConnectionTrait,
        place: &Place,
    ) -> Result<(Batch, Place), DbErr> {
        let side = &self.from;
        let key: Vec<String> = self.key.iter().map(|at| side.quoted(*at)).collect();
        let key = key.join(", ");
        let (mut after, mut values) = (String::new(), Vec::new());
        let mut offset = String::new();
        if self.has_plain_key() && !place.key.is_empty() {
            let holders: Vec<String> = self
                .key
                .iter()
                .enumerate()
                .map(|(n, at)| side.columns[*at].placeholder(side.backend, n + 1))
                .collect();
            let bound = self.key.iter().zip(&place.key);
            values = bound.map(|(at, cell)| side.columns[*at].bind(side.backend, cell)).collect();
            after = format!(" WHERE ({key}) > ({})", holders.join(", "));
        } else if place.rows > 0 {
            offset = format!(" OFFSET {}", place.rows);
        }
        let sql = format!(
            "SELECT {} FROM {}{after} ORDER BY {key} LIMIT {BATCH}{offset}",
            side.select(),
            quoted(side.backend, &side.table)
        );
        let statement = Statement::from_sql_and_values(side.backend, sql, values);
        let mut batch = Vec::new();
        let mut weight = 0;
        for row in db.query_all_raw(statement).await? {
            let cells = self.cells(side, &row)?;
            weight += cells.iter().map(Cell::weight).sum::<usize>();
            batch.push(cells);
            // One row is always taken, however large.
            if weight > MAX_BYTES {
                break;
            }
        }
        let key = batch.last().map_or_else(Vec::new, |row| self.key_of(row));
        let rows = place.rows + batch.len() as u64;
        Ok((batch, Place { rows, key }))
    }

    /// Writes rows to the target.
    pub(super) async fn write(&self, tx: &Tx, batch: &Batch) -> Result<(), DbErr> {
        let side = &self.to;
        let width = side.columns.len();
        let names: Vec<String> = (0..width).map(|at| side.quoted(at)).collect();
        let overriding =
            if side.backend == DbBackend::Postgres { " OVERRIDING SYSTEM VALUE" } else { "" };
        for rows in batch.chunks((MAX_VALUES / width).max(1)) {
            let mut tuples = Vec::new();
            let mut values: Vec<Value> = Vec::new();
            for row in rows {
                let mut holders = Vec::new();
                for (column, cell) in side.columns.iter().zip(row) {
                    values.push(column.bind(side.backend, cell));
                    holders.push(column.placeholder(side.backend, values.len()));
                }
                tuples.push(format!("({})", holders.join(", ")));
            }
            let sql = format!(
                "INSERT INTO {} ({}){overriding} VALUES {}",
                quoted(side.backend, &side.table),
                names.join(", "),
                tuples.join(", ")
            );
            tx.execute_raw(Statement::from_sql_and_values(side.backend, sql, values)).await?;
        }
        Ok(())
    }

    /// Compares rows of the source with those of the target; gives what differs, in words.
    pub(super) async fn check(
        &self,
        db: &impl ConnectionTrait,
        batch: &Batch,
    ) -> Result<Vec<String>, DbErr> {
        let side = &self.to;
        let key: Vec<String> = self.key.iter().map(|at| side.quoted(*at)).collect();
        let mut found = HashMap::new();
        for rows in batch.chunks((MAX_VALUES / self.key.len()).max(1)) {
            let mut values: Vec<Value> = Vec::new();
            let mut tuples = Vec::new();
            for row in rows {
                let mut holders = Vec::new();
                for at in &self.key {
                    values.push(side.columns[*at].bind(side.backend, &row[*at]));
                    holders.push(side.columns[*at].placeholder(side.backend, values.len()));
                }
                tuples.push(format!("({})", holders.join(", ")));
            }
            // SQLite compares lists of rows only with a VALUES.
            let list = match side.backend {
                DbBackend::Sqlite => format!("VALUES {}", tuples.join(", ")),
                _ => tuples.join(", "),
            };
            let sql = format!(
                "SELECT {} FROM {} WHERE ({}) IN ({list})",
                side.select(),
                quoted(side.backend, &side.table),
                key.join(", "),
            );
            let statement = Statement::from_sql_and_values(side.backend, sql, values);
            for row in db.query_all_raw(statement).await? {
                let cells = self.cells(side, &row)?;
                found.insert(format!("{:?}", self.key_of(&cells)), cells);
            }
        }
        let mut differences = Vec::new();
        for row in batch {
            let key = self.key_of(row);
            match found.get(&format!("{key:?}")) {
                None => differences.push(format!("{} is missing", self.row_name(&key))),
                Some(other) => {
                    let differs = row.iter().zip(other).position(|(one, other)| one != other);
                    if let Some(at) = differs {
                        let column = &side.columns[at].name;
                        differences.push(format!("{} differs in `{column}`", self.row_name(&key)));
                    }
                }
            }
        }
        Ok(differences)
    }

    pub(super) async fn count_source(&self, db: &impl ConnectionTrait) -> Result<u64, DbErr> {
        count(db, &self.from.table).await
    }

    pub(super) async fn count_target(&self, db: &impl ConnectionTrait) -> Result<u64, DbErr> {
        count(db, &self.to.table).await
    }

    /// Takes away what migrations have written, which the source has as well.
    pub(super) async fn clear(&self, tx: &Tx) -> Result<(), DbErr> {
        let table = quoted(self.to.backend, &self.to.table);
        tx.execute_unprepared(&format!("DELETE FROM {table}")).await.map(drop)
    }

    fn cells(&self, side: &Side, row: &QueryResult) -> Result<Vec<Cell>, DbErr> {
        let columns = side.columns.iter().zip(&self.forms).enumerate();
        columns
            .map(|(at, (column, form))| {
                column.read(row, at, *form).map_err(|error| {
                    refused(format!(
                        "the column `{}` of `{}` holds what is no {}: {error}",
                        column.name, side.table, column.sql_type
                    ))
                })
            })
            .collect()
    }

    fn key_of(&self, row: &[Cell]) -> Vec<Cell> {
        self.key.iter().map(|at| row[*at].clone()).collect()
    }

    /// Whether the source's order and its comparison are those of the values as they are read.
    fn has_plain_key(&self) -> bool {
        self.key.iter().all(|at| {
            let class = self.from.columns[*at].class;
            class == self.forms[*at]
                && matches!(class, Class::Int | Class::Bool | Class::Text | Class::Bytes)
        })
    }

    fn row_name(&self, key: &[Cell]) -> String {
        let key = self.key.iter().zip(key);
        let key: Vec<String> =
            key.map(|(at, cell)| format!("{} {cell}", self.from.columns[*at].name)).collect();
        format!("{} with {}", self.from.table, key.join(", "))
    }
}

impl Side {
    fn select(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| format!("{} AS c{at}", column.select(self.backend)))
            .collect();
        columns.join(", ")
    }

    fn quoted(&self, at: usize) -> String {
        quoted(self.backend, &self.columns[at].name)
    }
}

async fn count(db: &impl ConnectionTrait, table: &str) -> Result<u64, DbErr> {
    let backend = db.get_database_backend();
    let sql = format!("SELECT count(*) AS n FROM {}", quoted(backend, table));
    let row = db.query_one_raw(Statement::from_string(backend, sql)).await?;
    let count: i64 = row.ok_or_else(|| refused("a count gave no answer"))?.try_get("", "n")?;
    Ok(count.cast_unsigned())
}

/// Rows of one transaction.
const BATCH: u64 = 500;
/// Where a batch ends early: below what MariaDB takes as one packet.
const MAX_BYTES: usize = 4 << 20;
/// Values of one statement: below what each engine takes.
const MAX_VALUES: usize = 30_000;
