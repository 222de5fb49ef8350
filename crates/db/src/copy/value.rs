//! One value on its way from one engine to another: how it is read, how it is written, and the form
//! in which both sides are compared.

use sea_orm::{DbBackend, DbErr, QueryResult, Value};
use serde::{Deserialize, Serialize};

/// What a column holds, beyond the names that each engine has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Int,
    Bool,
    Real,
    Decimal,
    Text,
    Bytes,
    Json,
    Uuid,
    /// Date and time, compared in UTC to the microsecond.
    Moment,
}

/// A value, read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Cell {
    Null,
    Int(i64),
    /// The bits, so that every number is equal to itself.
    Real(u64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A column of one of the two databases.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) class: Class,
    /// The type as the engine writes it.
    pub(super) sql_type: String,
    /// The engine computes it.
    pub(super) is_generated: bool,
}

impl Class {
    /// From the type's name, in small letters; MySQL's with its length.
    pub(super) fn of(backend: DbBackend, name: &str) -> Self {
        let starts = |list: &[&str]| list.iter().any(|start| name.starts_with(start));
        match backend {
            _ if starts(&["uuid"]) => Self::Uuid,
            _ if starts(&["json"]) => Self::Json,
            _ if starts(&["bool", "tinyint(1)"]) => Self::Bool,
            _ if starts(&["timestamp", "datetime"]) => Self::Moment,
            _ if starts(&["decimal", "numeric", "money"]) => Self::Decimal,
            DbBackend::MySql if name.starts_with("bigint") && name.contains("unsigned") => {
                Self::Decimal
            }
            _ if starts(&["float", "double", "real"]) => Self::Real,
            _ if starts(&["bytea", "binary", "varbinary"]) || name.contains("blob") => Self::Bytes,
            DbBackend::Sqlite if name.contains("int") => Self::Int,
            // A column without a type keeps what it is given, as one of blobs does.
            DbBackend::Sqlite if name.is_empty() => Self::Bytes,
            DbBackend::Postgres if matches!(name, "int2" | "int4" | "int8") => Self::Int,
            DbBackend::MySql
                if starts(&["tinyint", "smallint", "mediumint", "int", "bigint", "year"]) =>
            {
                Self::Int
            }
            _ => Self::Text,
        }
    }

    /// The form in which values of two columns are compared, if there is one.
    pub(super) fn with(self, other: Self) -> Option<Self> {
        let is_either = |class| self == class || other == class;
        match (self, other) {
            _ if self == other => Some(self),
            (Self::Int | Self::Bool, Self::Int | Self::Bool) => Some(Self::Int),
            (Self::Text | Self::Bytes, Self::Uuid) | (Self::Uuid, Self::Text | Self::Bytes) => {
                Some(Self::Uuid)
            }
            (Self::Text, Self::Json) | (Self::Json, Self::Text) => Some(Self::Json),
            (Self::Text, Self::Moment) | (Self::Moment, Self::Text) => Some(Self::Moment),
            _ if is_either(Self::Decimal)
                && matches!(self, Self::Int | Self::Real | Self::Text | Self::Decimal)
                && matches!(other, Self::Int | Self::Real | Self::Text | Self::Decimal) =>
            {
                Some(Self::Decimal)
            }
            _ => None,
        }
    }
}

impl Column {
    /// The expression that reads it.
    pub(super) fn select(&self, backend: DbBackend) -> String {
        let name = quoted(backend, &self.name);
        match (backend, self.class) {
            (DbBackend::Sqlite, Class::Decimal) => format!("CAST({name} AS TEXT)"),
            (DbBackend::Sqlite, Class::Uuid) => {
                format!("CASE typeof({name}) WHEN 'blob' THEN hex({name}) ELSE {name} END")
            }
            // SQLite knows how to take off an offset, and forgets the microseconds.
            (DbBackend::Sqlite, Class::Moment) => {
                format!("coalesce(datetime({name}), '') || '|' || {name}")
            }
            (DbBackend::Postgres, Class::Int) => format!("{name}::bigint"),
            (DbBackend::Postgres, Class::Bool) => format!("{name}::int::bigint"),
            (DbBackend::Postgres, Class::Real) => format!("{name}::float8"),
            (DbBackend::Postgres, Class::Moment) => {
                let utc = if self.has_zone() { " AT TIME ZONE 'UTC'" } else { "" };
                format!("to_char({name}{utc}, 'YYYY-MM-DD HH24:MI:SS.US')")
            }
            (DbBackend::Postgres, Class::Bytes) => name,
            (DbBackend::Postgres, _) => format!("{name}::text"),
            (DbBackend::MySql, Class::Int | Class::Bool) => format!("CAST({name} AS SIGNED)"),
            (DbBackend::MySql, Class::Real) => format!("CAST({name} AS DOUBLE)"),
            (DbBackend::MySql, Class::Moment) => {
                format!("DATE_FORMAT({name}, '%Y-%m-%d %H:%i:%s.%f')")
            }
            (DbBackend::MySql, Class::Text | Class::Decimal | Class::Json | Class::Uuid) => {
                format!("CAST({name} AS CHAR)")
            }
            _ => name,
        }
    }

    /// Reads what [`Column::select`] gave, in the form of `common`.
    pub(super) fn read(&self, row: &QueryResult, at: usize, common: Class) -> Result<Cell, DbErr> {
        let cell = match self.class {
            Class::Int | Class::Bool => row.try_get_by_index::<Option<i64>>(at)?.map(Cell::Int),
            Class::Real => {
                row.try_get_by_index::<Option<f64>>(at)?.map(|real| Cell::Real(real.to_bits()))
            }
            Class::Bytes => row.try_get_by_index::<Option<Vec<u8>>>(at)?.map(Cell::Bytes),
            _ => row.try_get_by_index::<Option<String>>(at)?.map(Cell::Text),
        };
        Ok(cell.map_or(Cell::Null, |cell| cell.in_form_of(common)))
    }

    /// The placeholder with number `at`, from 1, that writes it.
    pub(super) fn placeholder(&self, backend: DbBackend, at: usize) -> String {
        if backend != DbBackend::Postgres {
            return "?".to_owned();
        }
        let sql_type = &self.sql_type;
        match self.class {
            Class::Int => format!("${at}::bigint"),
            Class::Bool => format!("${at}::bigint::int::boolean"),
            Class::Real => format!("${at}::float8"),
            Class::Bytes => format!("${at}::bytea"),
            Class::Moment if self.has_zone() => format!("(${at}::text || '+00')::timestamptz"),
            _ => format!("${at}::text::{sql_type}"),
        }
    }

    /// The value to bind, from the form in which values are compared.
    pub(super) fn bind(&self, backend: DbBackend, cell: &Cell) -> Value {
        let is_binary_uuid = self.class == Class::Bytes
            || (self.class == Class::Uuid && backend == DbBackend::Sqlite);
        match cell {
            Cell::Null => match self.class {
                Class::Int | Class::Bool => Value::BigInt(None),
                Class::Real => Value::Double(None),
                Class::Bytes => Value::Bytes(None),
                _ => Value::String(None),
            },
            Cell::Int(number) => Value::BigInt(Some(*number)),
            Cell::Real(bits) => Value::Double(Some(f64::from_bits(*bits))),
            Cell::Bytes(bytes) => Value::Bytes(Some(bytes.clone())),
            Cell::Text(text) if is_binary_uuid => Value::Bytes(Some(unhex(text))),
            Cell::Text(text) if self.class == Class::Moment && backend == DbBackend::Sqlite => {
                let zone = if self.has_zone() { "+00:00" } else { "" };
                Value::String(Some(format!("{text}{zone}")))
            }
            Cell::Text(text) => match self.class {
                // From a decimal; what does not fit shows in the check.
                Class::Int => Value::BigInt(text.parse().ok()),
                Class::Real => Value::Double(text.parse().ok()),
                _ => Value::String(Some(text.clone())),
            },
        }
    }

    /// Whether it is a moment on the one time line, rather than one on somebody's wall.
    fn has_zone(&self) -> bool {
        let name = &self.sql_type;
        name.contains("with time zone") || name.contains("timezone") || name == "timestamptz"
    }
}

impl Cell {
    fn in_form_of(self, common: Class) -> Self {
        match (common, self) {
            (Class::Decimal, Self::Int(number)) => Self::Text(number.to_string()),
            (Class::Decimal, Self::Real(bits)) => Self::Text(f64::from_bits(bits).to_string()),
            (Class::Decimal, Self::Text(text)) if text.contains('.') => {
                Self::Text(text.trim_end_matches('0').trim_end_matches('.').to_owned())
            }
            (Class::Json, Self::Text(text)) => {
                match serde_json::from_str::<serde_json::Value>(&text) {
                    Ok(value) => Self::Text(value.to_string()),
                    Err(_) => Self::Text(text),
                }
            }
            (Class::Uuid, Self::Bytes(bytes)) => Self::Text(hyphened(&hex(&bytes))),
            (Class::Uuid, Self::Text(text)) => Self::Text(hyphened(&text)),
            (Class::Moment, Self::Text(text)) => Self::Text(moment(&text)),
            (_, cell) => cell,
        }
    }

    /// Roughly what it weighs in a statement.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) | Self::Real(_) => 9,
            Self::Text(text) => text.len() + 5,
            Self::Bytes(bytes) => bytes.len() + 5,
        }
    }
}

/// For messages: a key as people read it.
impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Real(bits) => write!(f, "{}", f64::from_bits(*bits)),
            Self::Text(text) => write!(f, "`{text}`"),
            Self::Bytes(bytes) => write!(f, "x'{}'", hex(bytes)),
        }
    }
}

/// A name inside SQL.
pub(super) fn quoted(backend: DbBackend, name: &str) -> String {
    match backend {
        DbBackend::MySql => format!("`{}`", name.replace('`', "``")),
        _ => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// `2026-01-02 03:04:05.678900`, from that, or from SQLite's own time and the text as it is stored.
fn moment(text: &str) -> String {
    let (utc, stored) = text.split_once('|').unwrap_or((text, text));
    if utc.is_empty() {
        return stored.to_owned();
    }
    let fraction = stored.split_once('.').map_or("", |(_, rest)| rest);
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    let (micros, _) = fraction.split_at(end.min(6));
    let seconds = utc.split_once('.').map_or(utc, |(seconds, _)| seconds);
    format!("{seconds}.{micros:0<6}")
}

fn hyphened(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() != 32 {
        return text.to_owned();
    }
    let digits = digits.to_ascii_lowercase();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_form_whatever_the_engine_calls_it() {
        let check = |class, cell: Cell, wanted: &str| {
            assert_eq!(cell.in_form_of(class), Cell::Text(wanted.to_owned()));
        };
        let text = |text: &str| Cell::Text(text.to_owned());
        check(Class::Decimal, text("1.50"), "1.5");
        check(Class::Decimal, text("100"), "100");
        check(Class::Decimal, Cell::Real(1.5_f64.to_bits()), "1.5");
        check(Class::Json, text("{\"b\": 1, \"a\":[ ]}"), "{\"a\":[],\"b\":1}");
        check(
            Class::Moment,
            text("2026-01-02 01:04:05|2026-01-02T03:04:05.6789+02:00"),
            "2026-01-02 01:04:05.678900",
        );
        check(Class::Moment, text("2026-01-02 03:04:05.678900"), "2026-01-02 03:04:05.678900");
        let id = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        check(Class::Uuid, text(&id.to_uppercase()), id);
        check(Class::Uuid, Cell::Bytes(unhex(id)), id);
    }

    #[test]
    fn types_of_two_engines_meet_where_nothing_is_lost() {
        let of = Class::of;
        let pairs = [
            (of(DbBackend::Sqlite, "boolean"), of(DbBackend::MySql, "tinyint(1)"), Class::Bool),
            (of(DbBackend::Sqlite, "integer"), of(DbBackend::Postgres, "int8"), Class::Int),
            (of(DbBackend::Sqlite, "varchar(20)"), of(DbBackend::Postgres, "varchar"), Class::Text),
            (of(DbBackend::MySql, "binary(16)"), of(DbBackend::Postgres, "uuid"), Class::Uuid),
            (of(DbBackend::MySql, "longtext"), of(DbBackend::Postgres, "jsonb"), Class::Json),
            (
                of(DbBackend::MySql, "bigint(20) unsigned"),
                of(DbBackend::Postgres, "int8"),
                Class::Decimal,
            ),
        ];
        for (one, other, wanted) in pairs {
            assert_eq!(one.with(other), Some(wanted), "{one:?} {other:?}");
        }
        assert_eq!(Class::Text.with(Class::Bytes), None);
    }
}
