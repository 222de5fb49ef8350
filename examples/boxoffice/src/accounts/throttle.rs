//! A limit on failed sign-ins, kept in the database so that every web process counts alike.
//!
//! In a quarter of an hour one client may fail ten times with one name and a hundred times in all,
//! and one name may be failed a hundred times by everybody. Behind an address shared by many, or
//! against many clients, this slows guessing and does not stop it; it says so rather than lock
//! people out of their accounts for good.

use sea_orm::{
    ConnectionTrait, DbErr, IntoActiveModel,
    entity::prelude::*,
    sea_query::{ExprTrait, OnConflict},
};
use sha2::{Digest, Sha256};

/// The failures that one attempt counts towards.
pub(super) struct Tries([(String, i32); 3]);

impl Tries {
    pub(super) fn new(login: &str, client: &str) -> Self {
        Self([
            (key(&["both", login, client]), MOST_OF_BOTH),
            (key(&["login", login]), MOST_OF_ONE),
            (key(&["client", client]), MOST_OF_ONE),
        ])
    }

    /// How long to wait, when there were too many.
    pub(super) async fn wait_s(
        &self,
        db: &impl ConnectionTrait,
        now_ms: i64,
    ) -> Result<Option<i64>, DbErr> {
        let keys = self.0.iter().map(|(key, _)| key.as_str());
        let rows = Entity::find().filter(Column::Who.is_in(keys)).all(db).await?;
        let waits = rows.iter().filter_map(|row| {
            let most = self.0.iter().find(|(key, _)| *key == row.who)?.1;
            let left_ms = row.since_ms + WINDOW_MS - now_ms;
            (row.tries >= most && left_ms > 0).then_some((left_ms + 999) / 1_000)
        });
        Ok(waits.max())
    }

    /// Counts a failure.
    pub(super) async fn count(&self, db: &impl ConnectionTrait, now_ms: i64) -> Result<(), DbErr> {
        for (who, _) in &self.0 {
            let again = Entity::update_many()
                .col_expr(Column::Tries, Expr::col(Column::Tries).add(1))
                .filter(Column::Who.eq(who))
                .filter(Column::SinceMs.gt(now_ms - WINDOW_MS));
            if again.exec(db).await?.rows_affected == 1 {
                continue;
            }
            let first = Model { who: who.clone(), tries: 1, since_ms: now_ms };
            let restart = OnConflict::column(Column::Who)
                .update_columns([Column::Tries, Column::SinceMs])
                .to_owned();
            let insert = Entity::insert(first.into_active_model()).on_conflict(restart);
            insert.exec_without_returning(db).await?;
        }
        Ok(())
    }

    /// Forgets the failures of this client with this name, which turned out to be its owner.
    pub(super) async fn forgive(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        // Most people never fail; a read is cheaper than a write that changes nothing.
        let own = &self.0[0].0;
        if Entity::find_by_id(own.as_str()).one(db).await?.is_some() {
            Entity::delete_by_id(own.as_str()).exec(db).await?;
        }
        Ok(())
    }
}

/// Forgets failures that no longer count; call it now and then.
///
/// # Errors
/// When the database fails.
pub async fn forget_tries(db: &impl ConnectionTrait, now_ms: i64) -> Result<u64, DbErr> {
    let old = Entity::delete_many().filter(Column::SinceMs.lte(now_ms - WINDOW_MS));
    Ok(old.exec(db).await?.rows_affected)
}

/// Names and addresses are kept only as hashes: this table needs to tell them apart, not to know.
fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

use entity::{Column, Entity, Model};

mod entity {
    #![expect(unreachable_pub, reason = "sea-orm's derives make public items")]

    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "sign_in_tries")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub who: String,
        pub tries: i32,
        pub since_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

const WINDOW_MS: i64 = 15 * 60 * 1_000;
const MOST_OF_BOTH: i32 = 10;
const MOST_OF_ONE: i32 = 100;
