//! From held seats to an order, and what was bought.

use maud::{Markup, html};

use super::{
    cards,
    forms::{Field, Filled},
    icons,
    layout::Frame,
    words,
};
use crate::models::{Event, Hold, Order, Ticket, orders::Status};

/// Held seats, as the checkout page shows them.
pub(crate) struct Held {
    pub(crate) id: i64,
    pub(crate) quantity: i32,
    pub(crate) left_ms: i64,
    pub(crate) expires_at_ms: i64,
}

impl Held {
    pub(crate) fn of(hold: &Hold, now_ms: i64) -> Self {
        Self {
            id: hold.id,
            quantity: hold.quantity,
            left_ms: (hold.expires_at_ms - now_ms).max(0),
            expires_at_ms: hold.expires_at_ms,
        }
    }
}

pub(crate) fn checkout(frame: &Frame, event: &Event, held: &Held, filled: &Filled<'_>) -> Markup {
    let amount = event.price_cents * i64::from(held.quantity);
    html! {
        div.head {
            h1 { "Check out" }
            p {
                (words::count(held.quantity.into(), "seat is", "seats are"))
                " yours until " time datetime=(words::stamp(held.expires_at_ms)) { (words::hour(held.expires_at_ms)) } "."
            }
        }
        (filled.summary())
        div.two {
            form.form.wide method="post" action={ "/checkout/" (held.id) } {
                (frame.token())
                div.sheet.form.wide {
                    h2 { "Who is coming" }
                    (filled.input(&Field { name: "attendee", label: "Name on the tickets", autocomplete: "name", max_length: 150, ..Field::default() }))
                    (filled.input(&Field { name: "email", label: "Send the tickets to", kind: "email", autocomplete: "email", max_length: 254, ..Field::default() }))
                }
                @if amount > 0 {
                    div.sheet.form.wide {
                        h2 { "Payment" }
                        p.note.warn { "This is a demonstration, so no money moves. 4242 4242 4242 4242 pays, 4000 0000 0000 0002 is declined." }
                        (filled.input(&Field { name: "card", label: "Card number", autocomplete: "cc-number", max_length: 23, ..Field::default() }))
                    }
                }
                div.row {
                    button.button.buy.wide-on-small {
                        @if amount > 0 { "Pay " (words::money(amount, &event.currency)) } @else { "Get tickets" }
                    }
                }
            }
            aside.ticket aria-label="Your seats" {
                div.stack {
                    p.label { "Held for you" }
                    p { span.clock role="timer" aria-label="Time left" data-left-ms=(held.left_ms) { (words::countdown(held.left_ms)) } " " span.soft { "left" } }
                    (bill(event, held.quantity, amount, &event.currency))
                }
                div {
                    h2 { a href={ "/events/" (event.id) } { (event.name) } }
                    p.soft { (words::days(&event.starts_on, &event.ends_on)) br; (cards::place(event)) }
                    (frame.press(&format!("/checkout/{}/release", held.id), "linkish under", html! { "Give the seats back" }))
                }
            }
        }
    }
}

fn bill(event: &Event, quantity: i32, amount: i64, currency: &str) -> Markup {
    html! {
        table.bill {
            caption.hush { "What it costs" }
            thead { tr { th scope="col" { "Seats" } th scope="col" { "Amount" } } }
            tbody {
                tr { td { (quantity) " × " (words::price(event.price_cents, currency)) } td { (words::money(amount, currency)) } }
            }
            tfoot { tr { th scope="row" { "Total" } td { (words::money(amount, currency)) } } }
        }
    }
}

/// Seats that are no longer held.
pub(crate) fn expired(event: &Event) -> Markup {
    html! {
        div.middle.head {
            h1 { "These seats went back" }
            p { "Nobody paid within ten minutes, so others could have them. Nothing was charged." }
        }
        div.middle { a.button href={ "/events/" (event.id) } { "See what is left for " (event.name) } }
    }
}

/// An order: what was bought, and the way to its tickets.
pub(crate) fn order(
    frame: &Frame,
    order: &Order,
    event: &Event,
    tickets: &[Ticket],
    is_ready: bool,
) -> Markup {
    let refunded = order.status == Status::Refunded;
    html! {
        div.head.noprint {
            h1 { @if refunded { "Your order was refunded" } @else { "You are going to " (event.name) } }
            @if !refunded { p { "A copy goes to " strong { (order.email) } "." } }
        }
        div.two data-live=[(!is_ready && !refunded).then(|| format!("/orders/{}/live", order.number))] {
            article.ticket aria-label="Your ticket" {
                div {
                    p.label { "Admit " (words::thousands(order.quantity.into())) }
                    h2 { (event.name) }
                    dl.facts {
                        div { dt.label { "When" } dd { (words::days(&event.starts_on, &event.ends_on)) } }
                        div { dt.label { "Where" } dd { (cards::place(event)) } }
                        div { dt.label { "Name" } dd { (order.attendee) } }
                        div { dt.label { "Seats" } dd { (words::thousands(order.quantity.into())) } }
                    }
                }
                div {
                    p.label { "Order" }
                    p.number { (order.number) }
                    @if tickets.iter().any(|ticket| ticket.used_at_ms.is_some()) {
                        p.small.soft { (tickets.iter().filter(|ticket| ticket.used_at_ms.is_some()).count()) " of " (tickets.len()) " checked in at the door" }
                    }
                }
            }
            aside.stack {
                section.sheet.stack.noprint aria-labelledby="pdf" {
                    h2 #pdf { "Your " @if order.quantity == 1 { "ticket" } @else { "tickets" } }
                    @if refunded {
                        p { "The event was cancelled and " (words::money(order.amount_cents, &order.currency)) " went back the way it came." }
                        a.button.plain href="/events" { "Find another event" }
                    } @else if is_ready {
                        p.row role="status" { (icons::tick()) span { "Ready, with a code for the door." } }
                        a.button.buy.full href={ "/orders/" (order.number) "/ticket.pdf" } { (icons::download()) "Download PDF" }
                        p.small.soft { "Or print this page: the order number is enough at the door." }
                    } @else {
                        p role="status" { "Being prepared. This takes a few seconds; the page will show it, or " a href={ "/orders/" (order.number) } { "look again" } "." }
                    }
                }
                section.sheet aria-labelledby="receipt" {
                    h2 #receipt { "Receipt" }
                    (receipt(order, event))
                    p.small.soft { "Bought " (words::moment(order.created_at_ms)) " as " (frame.reader.as_ref().map_or("", |reader| reader.name.as_str())) }
                }
                p.noprint { a href={ "/events/" (event.id) "#talk" } { "Join the discussion" } " · " a href="/tickets" { "All my tickets" } }
            }
        }
    }
}

fn receipt(order: &Order, event: &Event) -> Markup {
    let each = order.amount_cents / i64::from(order.quantity.max(1));
    html! {
        table.bill {
            caption.hush { "Receipt for order " (order.number) }
            thead { tr { th scope="col" { "Seats" } th scope="col" { "Amount" } } }
            tbody { tr { td { (order.quantity) " × " (words::price(each, &order.currency)) span.hush { " for " (event.name) } } td { (words::money(order.amount_cents, &order.currency)) } } }
            tfoot { tr { th scope="row" { "Total" } td { (words::money(order.amount_cents, &order.currency)) } } }
        }
    }
}

/// Everything that the reader bought.
pub(crate) fn tickets(
    today: &str,
    held: &[(Held, Event)],
    orders: &[(Order, Event)],
    older: Option<String>,
    is_first: bool,
) -> Markup {
    let (past, coming): (Vec<_>, Vec<_>) =
        orders.iter().partition(|(_, event)| event.is_over(today));
    html! {
        div.head { h1 { "My tickets" } }
        @for (held, event) in held {
            p.note.warn {
                (words::count(held.quantity.into(), "seat", "seats")) " for " strong { (event.name) } " held until "
                (words::hour(held.expires_at_ms)) ". " a href={ "/checkout/" (held.id) } { "Finish checking out" }
            }
        }
        @if orders.is_empty() && is_first {
            div.empty {
                h2 { "No tickets yet" }
                p { "What you buy shows up here at once, with its PDF a moment later." }
                a.button.buy href="/events" { "Find an event" }
            }
        }
        @for (title, some) in [("Coming up", coming), ("Been there", past)] {
            @if !some.is_empty() {
                section.section aria-label=(title) {
                    h2 { (title) }
                    ul.rows.stack role="list" {
                        @for (order, event) in some { (bought(order, event, today)) }
                    }
                }
            }
        }
        (super::browse::pager("Pages of orders", (!is_first).then_some("/tickets"), older.as_deref(), ("Newest", "Older orders")))
    }
}

fn bought(order: &Order, event: &Event, today: &str) -> Markup {
    let (month, day, year) = words::leaf(&event.starts_on);
    html! {
        li {
            article.line.over[event.is_over(today)] {
                div.day aria-hidden="true" { span { (month) } b { (day) } span { (year) } }
                div {
                    h3 { a href={ "/orders/" (order.number) } { (event.name) } }
                    p.soft.small { (words::days(&event.starts_on, &event.ends_on)) " · " (cards::place(event)) }
                }
                div.aside {
                    span.print { (order.number) }
                    @if order.status == Status::Refunded { span.tag { "Refunded" } }
                    @else { span.soft.small { (words::count(order.quantity.into(), "seat", "seats")) } }
                }
            }
        }
    }
}
