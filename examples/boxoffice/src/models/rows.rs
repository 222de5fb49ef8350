//! Rows by their ids, one way for every table: a page of a list, latest first, and those that some
//! other rows name.

use std::collections::BTreeSet;

use sea_orm::{QueryOrder, QuerySelect, Select, entity::prelude::*};

use super::{Cursor, Page};

/// One page of what `select` finds, latest first; `id` reads the table's `key` off a row.
pub(super) async fn latest<E: EntityTrait>(
    db: &impl ConnectionTrait,
    mut select: Select<E>,
    key: E::Column,
    id: fn(&E::Model) -> i64,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Page<E::Model>, DbErr> {
    if let Some(cursor) = after {
        select = select.filter(key.lt(cursor.id));
    }
    let rows = select.order_by_desc(key).limit(limit.saturating_add(1)).all(db).await?;
    Ok(Page::cut(rows, limit, |row| Cursor::id(id(row))))
}

/// The rows whose key `id` is one of `ids`, in no order. No ids ask nothing.
pub(super) async fn named<E: EntityTrait>(
    db: &impl ConnectionTrait,
    id: E::Column,
    ids: impl IntoIterator<Item = i64>,
) -> Result<Vec<E::Model>, DbErr> {
    let ids = BTreeSet::from_iter(ids);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    E::find().filter(id.is_in(ids)).all(db).await
}
