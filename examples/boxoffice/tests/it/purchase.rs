//! Holding and buying: seats are never sold twice and never lost.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use boxoffice::{
    models::{Event, User, events, holds, orders, seats, tickets},
    purchase::{
        BuyError, Charge, Desk, HoldError, Payment, PaymentError, Purchase, Receipt, StandIn, Want,
    },
};
use proptest::prelude::*;
use sea_orm::{EntityTrait, PaginatorTrait};

use crate::house::{House, want};

fn pay<'a>(hold_id: i64, user: &'a User, card: &'a str) -> Purchase<'a> {
    Purchase { hold_id, user_id: user.id, attendee: &user.name, email: &user.email, card }
}

async fn check_seats(house: &House, event: &Event, sold: i32, held: i32) {
    let seats = seats::of(&house.cx.db, event.id).await.unwrap().unwrap();
    assert_eq!((seats.sold, seats.held), (sold, held), "of {}", seats.capacity);
}

#[tokio::test]
async fn what_is_bought_is_there_at_once_and_its_tickets_are_mailed() {
    let house = House::open().await;
    let (event, ana) = (house.sale(3, "25").await, house.user("ana").await);
    let hold = house.desk().hold(want(&event, &ana, 2)).await.unwrap();
    check_seats(&house, &event, 0, 2).await;
    let order = house.desk().buy(pay(hold.id, &ana, StandIn::PAYS)).await.unwrap();
    check_seats(&house, &event, 2, 0).await;
    assert_eq!((order.quantity, order.amount_cents, &*order.currency), (2, 5_000, "EUR"));
    let found = orders::find_by_number(&house.cx.db, &order.number.to_lowercase()).await.unwrap();
    assert_eq!(found, Some(order.clone()));
    let tickets = tickets::of_order(&house.cx.db, order.id).await.unwrap();
    assert_eq!(tickets.iter().map(|ticket| ticket.place).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(house.site.run_tasks().await, 1);
    let mailed = orders::find(&house.cx.db, order.id).await.unwrap().unwrap();
    assert!(mailed.mailed_at_ms.is_some());
    house.site.finish().await;
}

#[tokio::test]
async fn of_two_buyers_of_the_last_seat_one_gets_it_and_the_other_is_told_at_once() {
    let house = House::open().await;
    let event = house.sale(1, "").await;
    let (ana, ben) = (house.user("ana").await, house.user("ben").await);
    let (one, two) =
        tokio::join!(async { house.desk().hold(want(&event, &ana, 1)).await }, async {
            house.desk().hold(want(&event, &ben, 1)).await
        },);
    let held = [&one, &two].iter().filter(|result| result.is_ok()).count();
    let told =
        |result: &Result<_, HoldError>| matches!(result, Err(HoldError::SoldOut { free: 0 }));
    assert_eq!(held, 1);
    assert!(told(&one) || told(&two), "{one:?} {two:?}");
    check_seats(&house, &event, 0, 1).await;
    house.site.finish().await;
}

#[tokio::test]
async fn a_hold_that_expires_gives_its_seats_to_the_next_buyer() {
    let house = House::open().await;
    let event = house.sale(2, "10").await;
    let (ana, ben) = (house.user("ana").await, house.user("ben").await);
    let hold = house.desk().hold(want(&event, &ana, 2)).await.unwrap();
    house.site.advance(Duration::from_secs(599));
    let early = house.desk().hold(want(&event, &ben, 1)).await;
    assert!(matches!(early, Err(HoldError::SoldOut { free: 0 })), "{early:?}");
    house.site.advance(Duration::from_secs(1));
    assert_eq!(house.desk().find_hold(hold.id, ana.id).await.unwrap(), None);
    let late = house.desk().buy(pay(hold.id, &ana, StandIn::PAYS)).await;
    assert!(matches!(late, Err(BuyError::Gone)), "{late:?}");
    house.desk().hold(want(&event, &ben, 1)).await.unwrap();
    check_seats(&house, &event, 0, 1).await;
    house.site.finish().await;
}

#[tokio::test]
async fn expired_holds_are_given_back_by_a_task_too() {
    let house = House::open().await;
    let event = house.sale(100, "10").await;
    for number in 0..10 {
        let user = house.user(&format!("user{number}")).await;
        house.desk().hold(want(&event, &user, 3)).await.unwrap();
    }
    check_seats(&house, &event, 0, 30).await;
    house.site.advance(Duration::from_secs(600));
    house.cx.queue.push(boxoffice::tasks::ReleaseSeats {}).await.unwrap();
    house.site.run_tasks().await;
    check_seats(&house, &event, 0, 0).await;
    house.site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_double_click_buys_once() {
    let house = House::open().await;
    let (event, ana) = (house.sale(5, "10").await, house.user("ana").await);
    let hold = house.desk().hold(want(&event, &ana, 1)).await.unwrap();
    let mut clicks = tokio::task::JoinSet::new();
    for delay_us in (0..4_000).step_by(250) {
        let (desk, ana) = (house.desk(), ana.clone());
        clicks.spawn(async move {
            // So that some come in the middle of others' purchases.
            tokio::time::sleep(Duration::from_micros(delay_us)).await;
            desk.buy(pay(hold.id, &ana, StandIn::PAYS)).await
        });
    }
    let clicks = clicks.join_all().await;
    let again = house.desk().buy(pay(hold.id, &ana, StandIn::PAYS)).await.unwrap();
    for click in clicks {
        assert_eq!(click.unwrap().id, again.id);
    }
    check_seats(&house, &event, 1, 0).await;
    assert_eq!(tickets::Entity::find().count(&house.cx.db).await.unwrap(), 1);
    assert_eq!(house.site.run_tasks().await, 1);
    house.site.finish().await;
}

#[tokio::test]
async fn a_new_hold_takes_the_place_of_the_last_one_or_leaves_it() {
    let house = House::open().await;
    let (event, ana) = (house.sale(5, "").await, house.user("ana").await);
    let first = house.desk().hold(want(&event, &ana, 4)).await.unwrap();
    let more = house.desk().hold(want(&event, &ana, 6)).await;
    assert!(matches!(more, Err(HoldError::SoldOut { free: 5 })), "{more:?}");
    assert!(house.desk().find_hold(first.id, ana.id).await.unwrap().is_some());
    house.desk().hold(want(&event, &ana, 5)).await.unwrap();
    assert!(house.desk().find_hold(first.id, ana.id).await.unwrap().is_none());
    check_seats(&house, &event, 0, 5).await;
    for quantity in [0, -1, 11, i32::MAX, i32::MIN] {
        let odd = house.desk().hold(want(&event, &ana, quantity)).await;
        assert!(matches!(odd, Err(HoldError::Quantity)), "{odd:?}");
    }
    house.site.finish().await;
}

#[tokio::test]
async fn nobody_buys_or_releases_what_another_holds() {
    let house = House::open().await;
    let event = house.sale(5, "").await;
    let (ana, ben) = (house.user("ana").await, house.user("ben").await);
    let hold = house.desk().hold(want(&event, &ana, 1)).await.unwrap();
    assert!(!house.desk().release(hold.id, ben.id).await.unwrap());
    let stolen = house.desk().buy(pay(hold.id, &ben, StandIn::PAYS)).await;
    assert!(matches!(stolen, Err(BuyError::Gone)));
    let order = house.desk().buy(pay(hold.id, &ana, "")).await.unwrap();
    assert_eq!(order.amount_cents, 0);
    let peeked = house.desk().buy(pay(hold.id, &ben, "")).await;
    assert!(matches!(peeked, Err(BuyError::Gone)));
    assert!(!house.desk().release(hold.id, ana.id).await.unwrap());
    house.site.run_tasks().await;
    house.site.finish().await;
}

#[tokio::test]
async fn a_declined_payment_gives_the_seats_back() {
    let house = House::open().await;
    let (event, ana) = (house.sale(1, "10").await, house.user("ana").await);
    let hold = house.desk().hold(want(&event, &ana, 1)).await.unwrap();
    let declined = house.desk().buy(pay(hold.id, &ana, StandIn::DECLINES)).await;
    assert!(matches!(declined, Err(BuyError::Declined(_))), "{declined:?}");
    check_seats(&house, &event, 0, 0).await;
    let again = house.desk().buy(pay(hold.id, &ana, StandIn::PAYS)).await;
    assert!(matches!(again, Err(BuyError::Gone)), "{again:?}");
    assert_eq!(orders::Entity::find().count(&house.cx.db).await.unwrap(), 0);
    house.site.finish().await;
}

#[tokio::test]
async fn a_payment_whose_answer_is_lost_is_charged_once_and_sold_once() {
    let house = House::open().await;
    let (event, ana) = (house.sale(1, "10").await, house.user("ana").await);
    let hold = house.desk().hold(want(&event, &ana, 1)).await.unwrap();
    let lost = house.desk().buy(pay(hold.id, &ana, StandIn::LOSES_THE_ANSWER)).await;
    assert!(matches!(lost, Err(BuyError::Unknown)), "{lost:?}");
    check_seats(&house, &event, 0, 1).await;
    let order = house.desk().buy(pay(hold.id, &ana, StandIn::LOSES_THE_ANSWER)).await.unwrap();
    assert_eq!(order.quantity, 1);
    check_seats(&house, &event, 1, 0).await;
    house.site.run_tasks().await;
    house.site.finish().await;
}

#[tokio::test]
async fn abandoned_payments_become_orders_when_charged_and_free_seats_when_not() {
    let house = House::open().await;
    let event = house.sale(2, "10").await;
    let (ana, ben) = (house.user("ana").await, house.user("ben").await);
    for (user, card) in [(&ana, StandIn::LOSES_THE_ANSWER), (&ben, StandIn::TIMES_OUT)] {
        let hold = house.desk().hold(want(&event, user, 1)).await.unwrap();
        let unknown = house.desk().buy(pay(hold.id, user, card)).await;
        assert!(matches!(unknown, Err(BuyError::Unknown)), "{unknown:?}");
        // Seats whose payment is under way are neither released nor expire.
        assert!(!house.desk().release(hold.id, user.id).await.unwrap());
    }
    house.site.advance(Duration::from_secs(119));
    house.desk().settle_abandoned().await.unwrap();
    house.desk().release_expired().await.unwrap();
    check_seats(&house, &event, 0, 2).await;
    house.site.advance(Duration::from_secs(1));
    let moved = house.desk().settle_abandoned().await.unwrap();
    assert_eq!(moved.into_iter().collect::<Vec<_>>(), [event.id]);
    check_seats(&house, &event, 1, 0).await;
    let orders = orders::of_event(&house.cx.db, event.id, None, 10).await.unwrap();
    assert_eq!(orders.items.iter().map(|order| order.user_id).collect::<Vec<_>>(), [ana.id]);
    house.site.run_tasks().await;
    house.site.finish().await;
}

/// A provider that charges, and a process that dies before it hears of it.
#[derive(Clone)]
struct DiesAfterCharging {
    books: StandIn,
    keys: Arc<Mutex<Vec<String>>>,
}

impl Payment for DiesAfterCharging {
    async fn charge(&self, charge: &Charge<'_>) -> Result<Receipt, PaymentError> {
        self.books.charge(charge).await?;
        self.keys.lock().unwrap().push(charge.key.to_owned());
        std::future::pending().await
    }

    async fn settle(&self, key: &str) -> Result<Option<Receipt>, PaymentError> {
        self.books.settle(key).await
    }

    async fn refund(&self, key: &str) -> Result<(), PaymentError> {
        self.books.refund(key).await
    }
}

#[tokio::test]
async fn a_crash_between_charge_and_order_loses_neither_money_nor_seat() {
    let house = House::open().await;
    let (event, ana) = (house.sale(1, "10").await, house.user("ana").await);
    let books = StandIn::new(house.cx.db.clone());
    let payment = DiesAfterCharging { books, keys: Arc::default() };
    let dying = Desk::with_payment(&house.cx, payment.clone());
    let hold = dying.hold(want(&event, &ana, 1)).await.unwrap();
    let purchase = pay(hold.id, &ana, StandIn::PAYS);
    tokio::select! {
        result = dying.buy(purchase) => panic!("{result:?}"),
        () = async { while payment.keys.lock().unwrap().is_empty() { tokio::task::yield_now().await } } => {}
    }
    check_seats(&house, &event, 0, 1).await;
    // The buyer reloads after the restart.
    let order = house.desk().buy(purchase).await.unwrap();
    assert_eq!((order.amount_cents, payment.keys.lock().unwrap().len()), (1_000, 1));
    check_seats(&house, &event, 1, 0).await;
    house.site.run_tasks().await;
    house.site.finish().await;
}

#[tokio::test]
async fn a_cancelled_event_sells_nothing_and_gives_the_money_back() {
    let house = House::open().await;
    let event = house.sale(9, "10").await;
    let (ana, ben) = (house.user("ana").await, house.user("ben").await);
    let bought = house.desk().hold(want(&event, &ana, 2)).await.unwrap();
    let order = house.desk().buy(pay(bought.id, &ana, StandIn::PAYS)).await.unwrap();
    let held = house.desk().hold(want(&event, &ben, 1)).await.unwrap();
    let tx = house.cx.db.begin().await.unwrap();
    assert!(events::cancel(&tx, event.id).await.unwrap());
    house
        .cx
        .queue
        .push_in(&tx, boxoffice::tasks::RefundEvent { event_id: event.id })
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let late = house.desk().buy(pay(held.id, &ben, StandIn::PAYS)).await;
    assert!(matches!(late, Err(BuyError::Gone)));
    let later = house.desk().hold(want(&event, &ben, 1)).await;
    assert!(matches!(later, Err(HoldError::NotSelling)));
    house.site.run_tasks().await;
    let order = orders::find(&house.cx.db, order.id).await.unwrap().unwrap();
    assert_eq!(order.status, orders::Status::Refunded);
    let again = Charge {
        key: &bought.id.to_string(),
        amount_cents: 2_000,
        currency: "EUR",
        card: StandIn::PAYS,
    };
    let books = StandIn::new(house.cx.db.clone());
    assert!(matches!(books.charge(&again).await, Err(PaymentError::Declined(_))));
    house.site.finish().await;
}

#[tokio::test]
async fn what_is_over_or_unknown_or_a_draft_sells_nothing() {
    let house = House::open().await;
    let ana = house.user("ana").await;
    let over = house.sale(5, "").await;
    house.site.advance(Duration::from_secs(200 * 86_400));
    let unknown = Want { event_id: 42, user_id: ana.id, quantity: 1 };
    for want in [want(&over, &ana, 1), unknown] {
        let refused = house.desk().hold(want).await;
        assert!(matches!(refused, Err(HoldError::NotSelling)), "{refused:?}");
    }
    house.site.finish().await;
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Hold { user: usize, quantity: i32 },
    Buy { user: usize, card: usize },
    Release { user: usize },
    Wait { seconds: u64 },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..4_usize;
    prop_oneof![
        4 => (user.clone(), 1..5).prop_map(|(user, quantity)| Step::Hold { user, quantity }),
        4 => (user.clone(), 0..4_usize).prop_map(|(user, card)| Step::Buy { user, card }),
        1 => user.prop_map(|user| Step::Release { user }),
        2 => (1..400_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Sweep),
    ]
}

/// Runs the steps and after each compares the seats with the rows that claim them.
async fn check_invariant(steps: Vec<Step>) {
    const CAPACITY: i32 = 7;
    let house = House::open().await;
    let event = house.sale(CAPACITY, "10").await;
    let mut users = Vec::new();
    for name in ["ana", "ben", "cleo", "dan"] {
        users.push(house.user(name).await);
    }
    let cards = [StandIn::PAYS, StandIn::DECLINES, StandIn::LOSES_THE_ANSWER, StandIn::TIMES_OUT];
    let mut held = [None; 4];
    for step in steps {
        match step {
            Step::Hold { user, quantity } => {
                if let Ok(hold) = house.desk().hold(want(&event, &users[user], quantity)).await {
                    held[user] = Some(hold.id);
                }
            }
            Step::Buy { user, card } => {
                if let Some(hold) = held[user] {
                    let _ = house.desk().buy(pay(hold, &users[user], cards[card])).await;
                }
            }
            Step::Release { user } => {
                if let Some(hold) = held[user] {
                    house.desk().release(hold, users[user].id).await.unwrap();
                }
            }
            Step::Wait { seconds } => house.site.advance(Duration::from_secs(seconds)),
            Step::Sweep => {
                house.desk().release_expired().await.unwrap();
                house.desk().settle_abandoned().await.unwrap();
            }
        }
        let seats = seats::of(&house.cx.db, event.id).await.unwrap().unwrap();
        let holds = holds::Entity::find().all(&house.cx.db).await.unwrap();
        let orders = orders::Entity::find().all(&house.cx.db).await.unwrap();
        assert_eq!(seats.held, holds.iter().map(|hold| hold.quantity).sum::<i32>(), "{step:?}");
        assert_eq!(seats.sold, orders.iter().map(|order| order.quantity).sum::<i32>(), "{step:?}");
        assert!(seats.sold + seats.held <= CAPACITY, "{seats:?} after {step:?}");
    }
    // In the end nothing stays held.
    house.site.advance(Duration::from_secs(3_600));
    house.desk().release_expired().await.unwrap();
    house.desk().settle_abandoned().await.unwrap();
    let seats = seats::of(&house.cx.db, event.id).await.unwrap().unwrap();
    assert_eq!(seats.held, 0);
    house.site.run_tasks().await;
    house.site.finish().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn seats_are_what_holds_and_orders_say_after_any_steps(
        steps in prop::collection::vec(step(), 1..25)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check_invariant(steps));
    }
}
