//! `boxoffice rehearse EVENT`: a crowd of made-up buyers, to see how a sale goes before it opens.

use serde::Serialize;
use throng::{Command, Ctx, Error, Result, config::Env};
use tokio::task::JoinSet;

use crate::{
    models::{User, bulk, events, users},
    purchase::{BuyError, Desk, HoldError, Purchase, StandIn, Want},
};

/// Sends a crowd of made-up buyers at an event, all at once
///
/// Each buyer holds a seat and pays for it, as visitors do, and has an account that nobody can sign
/// in to. The orders are real and their tickets are mailed. Not for production.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Rehearse {
    /// The event's id, from its address
    event: i64,
    /// How many buyers
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    buyers: u32,
    /// Seats that each one wants
    #[arg(long, value_name = "N", default_value_t = 1)]
    seats: i32,
    /// The stand-in card that they pay with
    #[arg(long, default_value = StandIn::PAYS)]
    card: String,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  boxoffice rehearse 7031294859264000 --buyers 200
  boxoffice rehearse 7031294859264000 --card '4000 0000 0000 0002'";

/// What became of the buyers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Outcome {
    bought: u32,
    sold_out: u32,
    refused: u32,
    failed: u32,
}

impl Command for Rehearse {
    const NAME: &'static str = "rehearse";

    async fn run(self, cx: Ctx) -> Result {
        if cx.config().env == Env::Production {
            return Err(Error::refused("a rehearsal sells real seats; not in production"));
        }
        let event = events::find(&cx.db, self.event).await?;
        let event = event.ok_or_else(|| Error::not_found("there is no such event"))?;
        let crowd: Vec<User> = (0..self.buyers).map(|_| buyer(&cx)).collect();
        let tx = cx.db.begin().await?;
        bulk::rows::<users::ActiveModel, _>(&tx, crowd.clone()).await?;
        tx.commit().await?;
        let desk = Desk::of(&cx);
        let started = cx.clock.elapsed();
        let mut buyers = JoinSet::new();
        for user in crowd {
            let (desk, rehearsal) = (desk.clone(), self.clone());
            buyers.spawn(async move { rehearsal.buy(&desk, &user).await });
        }
        let mut all = Outcome::default();
        while let Some(one) = buyers.join_next().await {
            let one = one?;
            all.bought += one.bought;
            all.sold_out += one.sold_out;
            all.refused += one.refused;
            all.failed += one.failed;
        }
        let seconds = cx.clock.elapsed().saturating_sub(started).as_secs_f64();
        if self.json {
            println!("{}", serde_json::to_string(&all)?);
            return Ok(());
        }
        let Outcome { bought, sold_out, refused, failed } = all;
        println!(
            "{}: {bought} bought, {sold_out} came too late, {refused} were refused, {failed} failed, in {seconds:.2} s",
            event.name
        );
        Ok(())
    }
}

impl Rehearse {
    async fn buy(&self, desk: &Desk, user: &User) -> Outcome {
        let mut outcome = Outcome::default();
        let want = Want { event_id: self.event, user_id: user.id, quantity: self.seats };
        let hold = match desk.hold(want).await {
            Ok(hold) => hold,
            Err(HoldError::Db(error)) => {
                tracing::error!(%error, "a rehearsed hold failed: {error}");
                outcome.failed = 1;
                return outcome;
            }
            Err(HoldError::SoldOut { .. }) => {
                outcome.sold_out = 1;
                return outcome;
            }
            Err(_) => {
                outcome.refused = 1;
                return outcome;
            }
        };
        let purchase = Purchase {
            hold_id: hold.id,
            user_id: user.id,
            attendee: &user.name,
            email: &user.email,
            card: &self.card,
        };
        match desk.buy(purchase).await {
            Ok(_) => outcome.bought = 1,
            Err(BuyError::Write(error)) => {
                tracing::error!(%error, "a rehearsed purchase failed: {error}");
                outcome.failed = 1;
            }
            Err(_) => outcome.refused = 1,
        }
        outcome
    }
}

fn buyer(cx: &Ctx) -> User {
    let id = cx.ids.next();
    User {
        id,
        username: format!("buyer{id}"),
        email: format!("buyer{id}@example.com"),
        // Django's mark of a password that nothing matches.
        password: "!".to_owned(),
        name: format!("Buyer {id}"),
        bio: String::new(),
        is_staff: false,
        is_active: true,
        joined_at_ms: cx.clock.now_ms(),
    }
}
