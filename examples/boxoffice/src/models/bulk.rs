//! Writing many rows at once, for imports and seeds. Call these in a transaction.

use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    Iterable, ModelTrait,
};

use super::{Event, Seats, events, search, seats};

/// Enters events that are new, with their seats and search terms.
pub(crate) async fn events(tx: &impl ConnectionTrait, new: &[(Event, Seats)]) -> Result<(), DbErr> {
    let events: Vec<Event> = new.iter().map(|(event, _)| event.clone()).collect();
    rows::<events::ActiveModel, _>(tx, events.clone()).await?;
    rows::<seats::ActiveModel, _>(tx, new.iter().map(|(_, seats)| *seats).collect()).await?;
    search::index_new(tx, &events).await
}

/// Inserts rows of any table, some hundred a statement.
pub(crate) async fn rows<A, M>(tx: &impl ConnectionTrait, rows: Vec<M>) -> Result<(), DbErr>
where
    A: ActiveModelTrait + ActiveModelBehavior + Send,
    M: ModelTrait<Entity = A::Entity> + IntoActiveModel<A>,
{
    let mut rows = rows.into_iter();
    let columns = <A::Entity as EntityTrait>::Column::iter().count();
    let a_statement = (MAX_VALUES / columns).min(MAX_ROWS);
    loop {
        let some: Vec<A> = rows.by_ref().take(a_statement).map(M::into_active_model).collect();
        if some.is_empty() {
            return Ok(());
        }
        A::Entity::insert_many(some).exec_without_returning(tx).await?;
    }
}

/// SQLite's limit is 32,766.
const MAX_VALUES: usize = 30_000;
const MAX_ROWS: usize = 500;
