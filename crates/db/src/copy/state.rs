//! What a copy that was cut short leaves in the target, so that it can go on.

use sea_orm::{ConnectionTrait, DbErr};
use sea_query::{ColumnDef, Expr, ExprTrait, Query, Table};

use super::rows::Place;
use crate::Tx;

/// Makes the table of the copy.
pub(super) async fn make(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let table = Table::create()
        .table(COPY)
        .if_not_exists()
        .col(ColumnDef::new("name").string_len(190).not_null().primary_key())
        .col(ColumnDef::new("state").text().not_null())
        .to_owned();
    db.execute(&table).await.map(drop)
}

pub(super) async fn read(db: &impl ConnectionTrait, name: &str) -> Result<Option<String>, DbErr> {
    let select =
        Query::select().column("state").from(COPY).and_where(Expr::col("name").eq(name)).to_owned();
    db.query_one(&select).await?.map(|row| row.try_get("", "state")).transpose()
}

pub(super) async fn write(db: &impl ConnectionTrait, name: &str, state: &str) -> Result<(), DbErr> {
    forget(db, name).await?;
    let insert = Query::insert()
        .into_table(COPY)
        .columns(["name", "state"])
        .values_panic([name.into(), state.into()])
        .to_owned();
    db.execute(&insert).await.map(drop)
}

pub(super) async fn forget(db: &impl ConnectionTrait, name: &str) -> Result<(), DbErr> {
    let delete = Query::delete().from_table(COPY).and_where(Expr::col("name").eq(name)).to_owned();
    db.execute(&delete).await.map(drop)
}

/// All that begin with `start`, in the order of their names.
pub(super) async fn read_all(
    db: &impl ConnectionTrait,
    start: &str,
) -> Result<Vec<(String, String)>, DbErr> {
    let select = Query::select()
        .columns(["name", "state"])
        .from(COPY)
        .and_where(Expr::col("name").like(format!("{start}%")))
        .order_by("name", sea_query::Order::Asc)
        .to_owned();
    let rows = db.query_all(&select).await?;
    rows.iter().map(|row| Ok((row.try_get("", "name")?, row.try_get("", "state")?))).collect()
}

/// How far a table has got; none when it was not begun.
pub(super) async fn place(db: &impl ConnectionTrait, table: &str) -> Result<Option<Place>, DbErr> {
    let state = read(db, &format!("{TABLE}{table}")).await?;
    state
        .map(|state| serde_json::from_str(&state).map_err(|error| DbErr::Json(error.to_string())))
        .transpose()
}

pub(super) async fn set_place(tx: &Tx, table: &str, place: &Place) -> Result<(), DbErr> {
    let state = serde_json::to_string(place).map_err(|error| DbErr::Json(error.to_string()))?;
    write(tx, &format!("{TABLE}{table}"), &state).await
}

/// The table of the copy itself.
pub(super) const COPY: &str = "throng_copy";
/// Names of tables begin with it.
const TABLE: &str = "table ";
/// Names of foreign keys that are dropped while the copy lasts begin with it.
pub(super) const FOREIGN_KEY: &str = "foreign key ";
/// Where the rows come from.
pub(super) const SOURCE: &str = "source";
