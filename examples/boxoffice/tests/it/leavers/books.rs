//! What must be true of the database whoever came and left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use boxoffice::models::{
    Order, Target, comments,
    counters::{self, Counted},
    events, follows, holds, orders, seats, tickets, users,
};
use sea_orm::{
    ConnectionTrait, EntityTrait, ExprTrait, QueryResult,
    sea_query::{Expr, Query},
};
use throng::db::Db;

use super::visitor::Notes;

/// All that money and seats are written in.
struct Books {
    seats: Vec<seats::Model>,
    holds: Vec<holds::Model>,
    orders: Vec<Order>,
    tickets: Vec<tickets::Model>,
    /// What was charged for each hold, in cents.
    charged: BTreeMap<i64, i64>,
}

/// Holds of the books at any moment.
pub(super) async fn check(db: &Db) {
    Books::read(db).await.check();
}

/// Holds of them once every task has run and every payment was settled.
pub(super) async fn check_at_the_end(db: &Db, mail: &Path) {
    let books = Books::read(db).await;
    books.check();
    assert_eq!(books.holds, [], "holds outlive their time");
    let paid = books.orders.iter().filter(|order| order.amount_cents > 0);
    let paid: BTreeMap<_, _> = paid.map(|order| (order.hold_id, order.amount_cents)).collect();
    assert_eq!(paid, books.charged, "charges and orders are not the same");
    let unsent: Vec<_> = books.orders.iter().filter(|order| order.mailed_at_ms.is_none()).collect();
    assert!(unsent.is_empty(), "orders without mail: {unsent:?}");
    let letters: BTreeSet<String> = match fs::read_dir(mail) {
        Ok(files) => files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect(),
        Err(_) => BTreeSet::new(),
    };
    let letter = |order: &Order| format!("tickets-{}.eml", order.number.to_lowercase());
    let wanted: BTreeSet<String> = books.orders.iter().map(letter).collect();
    let odd: Vec<_> = letters.symmetric_difference(&wanted).collect();
    assert!(odd.is_empty(), "letters that are missing or too many: {odd:?}");
    check_counters(db).await;
}

impl Books {
    async fn read(db: &Db) -> Self {
        let charges = Query::select()
            .columns(["idempotency_key", "amount_cents"])
            .from("stand_in_charges")
            .and_where(Expr::col("state").eq(CHARGED))
            .to_owned();
        let tx = db.begin().await.unwrap();
        let charges = tx.query_all(&charges).await.unwrap();
        let charge = |row: &QueryResult| {
            let key: String = row.try_get("", "idempotency_key").unwrap();
            (key.parse().unwrap(), row.try_get("", "amount_cents").unwrap())
        };
        let books = Self {
            seats: seats::Entity::find().all(&tx).await.unwrap(),
            holds: holds::Entity::find().all(&tx).await.unwrap(),
            orders: orders::Entity::find().all(&tx).await.unwrap(),
            tickets: tickets::Entity::find().all(&tx).await.unwrap(),
            charged: charges.iter().map(charge).collect(),
        };
        tx.rollback().await.unwrap();
        books
    }

    fn check(&self) {
        for seats in &self.seats {
            let of_event = |event_id| event_id == seats.event_id;
            let held = self.holds.iter().filter(|hold| of_event(hold.event_id));
            let sold = self.orders.iter().filter(|order| of_event(order.event_id));
            assert_eq!(seats.held, held.map(|hold| hold.quantity).sum::<i32>(), "{seats:?}");
            assert_eq!(seats.sold, sold.map(|order| order.quantity).sum::<i32>(), "{seats:?}");
            assert!(seats.sold + seats.held <= seats.capacity, "{seats:?}");
        }
        let mut bought = BTreeSet::new();
        for order in &self.orders {
            assert!(bought.insert(order.hold_id), "a hold was bought twice: {order:?}");
            let places = self.tickets.iter().filter(|ticket| ticket.order_id == order.id);
            let mut places: Vec<_> = places.map(|ticket| ticket.place).collect();
            places.sort_unstable();
            assert_eq!(places, (1..=order.quantity).collect::<Vec<_>>(), "{order:?}");
            let paid = self.charged.get(&order.hold_id).copied().unwrap_or(0);
            assert_eq!(paid, order.amount_cents, "{order:?}");
        }
        let tickets = self.orders.iter().map(|order| order.quantity as usize).sum::<usize>();
        assert_eq!(self.tickets.len(), tickets, "a ticket without an order");
        for hold_id in self.charged.keys() {
            let is_settled = bought.contains(hold_id);
            let is_known = self.holds.iter().any(|hold| hold.id == *hold_id && hold.is_paying);
            assert!(is_settled || is_known, "hold {hold_id} was charged and is gone");
        }
    }
}

/// Whatever a visitor was told is there.
pub(super) async fn check_notes(db: &Db, name: &str, notes: &Notes) {
    let user = users::find_by_username(db, name).await.unwrap();
    assert!(user.is_some() || !notes.has_account, "the account of {name} is gone");
    let Some(user) = user else { return };
    for (hold, number) in &notes.orders {
        let order = orders::find_by_number(db, number).await.unwrap();
        let order = order.unwrap_or_else(|| panic!("order {number} of {name} is gone"));
        assert_eq!((order.hold_id.to_string(), order.user_id), (hold.clone(), user.id));
    }
    let said = comments::of_author(db, user.id, None, 10_000).await.unwrap().items;
    for (body, (sent, confirmed)) in &notes.comments {
        let times = said.iter().filter(|comment| comment.body == *body).count();
        assert!((*confirmed..=*sent).contains(&times), "{body}: {times} of {confirmed} to {sent}");
    }
    for (other, is_followed) in &notes.follows {
        let Some(is_followed) = is_followed else { continue };
        let other = users::find_by_username(db, other).await.unwrap().unwrap();
        let target = Target::Person(other.id);
        let is = follows::is_following(db, user.id, target).await.unwrap();
        assert_eq!(is, *is_followed, "{name} and {}", other.username);
    }
}

/// What tasks have counted is what there is to count.
async fn check_counters(db: &Db) {
    let events = events::Entity::find().all(db).await.unwrap();
    let users = users::Entity::find().all(db).await.unwrap();
    let of_events = events.iter().map(|event| Counted::Comments(event.id));
    let of_users = users.iter();
    let of_users =
        of_users.flat_map(|user| [Counted::PersonFollowers(user.id), Counted::Following(user.id)]);
    for counted in of_events.chain(of_users) {
        let kept = counters::of(db, counted).await.unwrap();
        assert_eq!(kept, counters::refill(db, counted).await.unwrap(), "{counted:?}");
    }
}

/// As the stand-in for a payment provider writes it.
const CHARGED: i16 = 1;
