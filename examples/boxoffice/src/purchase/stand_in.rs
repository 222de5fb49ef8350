//! A stand-in for a payment provider, which can be told to fail.
//!
//! It keeps its books in a table of its own, outside of the site's transactions as a real
//! provider's are, so that it remembers keys over a crash. The card tells it what to do.

use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};
use throng::db::Db;

use super::{Charge, Payment, PaymentError, Receipt};

/// The stand-in. Any card pays, but for those in its constants.
#[derive(Clone, Debug)]
pub struct StandIn {
    db: Db,
}

impl StandIn {
    /// A card that pays, as all others do.
    pub const PAYS: &str = "4242 4242 4242 4242";
    /// A card that is declined.
    pub const DECLINES: &str = "4000 0000 0000 0002";
    /// A card that is charged, but the answer is lost on the first try.
    pub const LOSES_THE_ANSWER: &str = "4000 0000 0000 0119";
    /// A card at which the provider never answers and never charges.
    pub const TIMES_OUT: &str = "4000 0000 0000 0127";

    /// Keeps its books in `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Writes `state` under a key that is new; the state that the key has then, and whether it was
    /// written now.
    async fn write(
        &self,
        key: &str,
        state: State,
        charge: Option<&Charge<'_>>,
    ) -> Result<(State, bool), PaymentError> {
        let row = ActiveModel {
            idempotency_key: Set(key.to_owned()),
            state: Set(state),
            amount_cents: Set(charge.map_or(0, |charge| charge.amount_cents)),
            currency: Set(charge.map_or_else(String::new, |charge| charge.currency.to_owned())),
        };
        let once = OnConflict::column(Column::IdempotencyKey)
            .do_nothing_on([Column::IdempotencyKey])
            .to_owned();
        let insert = Entity::insert(row).on_conflict(once).try_insert();
        let inserted = insert.exec_without_returning(&self.db).await.map_err(unknown)?;
        let is_new = matches!(inserted, sea_orm::TryInsertResult::Inserted(1..));
        if is_new {
            return Ok((state, true));
        }
        let row = Entity::find_by_id(key).one(&self.db.primary()).await.map_err(unknown)?;
        Ok((row.map_or(state, |row| row.state), false))
    }
}

impl Payment for StandIn {
    async fn charge(&self, charge: &Charge<'_>) -> Result<Receipt, PaymentError> {
        let card: String = charge.card.chars().filter(char::is_ascii_digit).collect();
        let is = |other: &str| other.replace(' ', "") == card;
        if is(Self::TIMES_OUT) {
            return Err(PaymentError::Unknown("no answer in time".to_owned()));
        }
        let wish = if is(Self::DECLINES) { State::Declined } else { State::Charged };
        let (state, is_new) = self.write(charge.key, wish, Some(charge)).await?;
        match state {
            State::Charged if is_new && is(Self::LOSES_THE_ANSWER) => {
                Err(PaymentError::Unknown("the answer was lost".to_owned()))
            }
            State::Charged => Ok(receipt(charge.key)),
            State::Declined => Err(PaymentError::Declined("the card was declined".to_owned())),
            State::Closed | State::Refunded => {
                Err(PaymentError::Declined("it came too late".to_owned()))
            }
        }
    }

    async fn settle(&self, key: &str) -> Result<Option<Receipt>, PaymentError> {
        let (state, _) = self.write(key, State::Closed, None).await?;
        Ok((state == State::Charged).then(|| receipt(key)))
    }

    async fn refund(&self, key: &str) -> Result<(), PaymentError> {
        let update = Entity::update_many()
            .col_expr(Column::State, Expr::value(State::Refunded))
            .filter(Column::IdempotencyKey.eq(key))
            .filter(Column::State.eq(State::Charged));
        update.exec(&self.db).await.map(drop).map_err(unknown)
    }
}

fn receipt(key: &str) -> Receipt {
    Receipt { reference: format!("stand-in-{key}") }
}

fn unknown(error: DbErr) -> PaymentError {
    PaymentError::Unknown(error.to_string())
}

use entity::{ActiveModel, Column, Entity, State};

mod entity {
    #![expect(unreachable_pub, reason = "sea-orm's derives make public items")]

    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "stand_in_charges")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub idempotency_key: String,
        pub state: State,
        pub amount_cents: i64,
        pub currency: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    #[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
    #[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
    pub enum State {
        Charged = 1,
        Declined = 2,
        /// Asked about before it was charged: it never will be.
        Closed = 3,
        Refunded = 4,
    }
}
