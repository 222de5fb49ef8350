//! An organiser's own pages: their events, the form of one, who comes, the door.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    browse::pager,
    cards,
    forms::{Field, Filled},
    layout::Frame,
    words,
};
use crate::models::{Event, Order, Organiser, Seats, events::Status};

/// What strangers read about putting on events.
pub(crate) fn invitation(frame: &Frame) -> Markup {
    html! {
        div.head {
            h1 { "Put on your own event" }
            p { "A page, tickets, a discussion and a list for the door. Free for free events, and for the others too." }
        }
        ul.cards.three role="list" {
            @for (title, text) in [
                ("Announce", "Name, days, place and price: the page is up as soon as you publish it, and your followers see it."),
                ("Sell", "Seats are held while people pay and never sold twice. You watch the count move."),
                ("Open the door", "Every ticket carries a code that is good once. Type it or scan it."),
            ] {
                li.sheet { h2 { (title) } p.soft { (text) } }
            }
        }
        div.section.row {
            a.button.buy href="/sign-up?next=/organise/events/new" { "Sign up and announce one" }
            a.button.plain href=(frame.sign_in()) { "I have an account" }
        }
    }
}

/// An organiser's own events.
pub(crate) struct Desk<'a> {
    pub(crate) organiser: Option<&'a Organiser>,
    pub(crate) events: &'a [(Event, Option<Seats>)],
    /// How often the page of each was opened.
    pub(crate) views: &'a BTreeMap<i64, i64>,
    pub(crate) today: &'a str,
    pub(crate) older: Option<String>,
    pub(crate) is_first: bool,
}

/// The organiser's desk: every event with how it sells and how often it is seen.
pub(crate) fn desk(desk: &Desk<'_>) -> Markup {
    let Desk { organiser, events, views, today, .. } = *desk;
    html! {
        div.row.apart.titled {
            div.head { h1 { "Your events" } @if let Some(organiser) = organiser { p { "As " a href={ "/organisers/" (organiser.id) } { (organiser.name) } } } }
            a.button href="/organise/events/new" { "New event" }
        }
        @if events.is_empty() {
            div.empty {
                h2 { "Nothing announced yet" }
                p { "An event needs a name, a day, a place and a number of seats. Keep it as a draft until it is ready." }
                a.button.buy href="/organise/events/new" { "Announce your first event" }
            }
        } @else {
            h2.hush { "All of them" }
            ul.rows role="list" {
                @for (event, seats) in events {
                    @let aside = html! {
                        span.print {
                            @if let Some(&views) = views.get(&event.id) { (words::count(views, "view", "views")) @if seats.is_some() { " · " } }
                            @if let Some(seats) = seats { (words::thousands(seats.sold.into())) " of " (words::thousands(seats.capacity.into())) " sold" }
                        }
                        span.row.over-link {
                            (cards::Standing::of(event, seats.as_ref(), today).tag())
                            a href={ "/organise/events/" (event.id) } { "Edit" span.hush { " " (event.name) } }
                            a href={ "/organise/events/" (event.id) "/orders" } { "Who comes" span.hush { " to " (event.name) } }
                        }
                    };
                    (cards::line(event, seats.as_ref(), today, Some(aside)))
                }
            }
        }
        (pager("Pages of events", (!desk.is_first).then_some("/organise"), desk.older.as_deref(), ("Newest", "Older events")))
    }
}

/// The form of an event, new or known.
pub(crate) fn form(frame: &Frame, event: Option<&Event>, filled: &Filled<'_>) -> Markup {
    let action = match event {
        Some(event) => format!("/organise/events/{}", event.id),
        None => "/organise/events/new".to_owned(),
    };
    html! {
        div.text.centre {
            div.head {
                h1 { @match event { Some(event) => { "Edit " (event.name) }, None => "New event" } }
                @if let Some(event) = event {
                    p { a href={ "/events/" (event.id) } { "See its page" } " · " a href={ "/organise/events/" (event.id) "/orders" } { "Who comes" } }
                }
            }
            (filled.summary())
            form.form.wide method="post" action=(action) {
                (frame.token())
                div.sheet.form.wide {
                    h2 { "What" }
                    (filled.input(&Field { name: "name", label: "Name", ..Field::default() }))
                    div.pair {
                        (filled.input(&Field { name: "topic", label: "Topic", hint: "One word, such as rust.", max_length: 50, ..Field::default() }))
                        (filled.input(&Field { name: "url", label: "Website", hint: "If it has one.", kind: "url", max_length: 500, is_required: false, ..Field::default() }))
                    }
                    (filled.area(&Field { name: "description", label: "Description", hint: "Plain text; an empty line begins a paragraph.", max_length: 10_000, is_required: false, ..Field::default() }))
                }
                div.sheet.form.wide {
                    h2 { "When and where" }
                    div.pair {
                        (filled.input(&Field { name: "starts_on", label: "First day", kind: "date", ..Field::default() }))
                        (filled.input(&Field { name: "ends_on", label: "Last day", kind: "date", is_required: false, ..Field::default() }))
                    }
                    div.pair {
                        (filled.input(&Field { name: "city", label: "City", max_length: 100, is_required: false, ..Field::default() }))
                        (filled.input(&Field { name: "country", label: "Country", max_length: 100, is_required: false, ..Field::default() }))
                    }
                    (tick("online", "It can be attended online", "Then city and country may stay empty.", filled))
                }
                div.sheet.form.wide {
                    h2 { "Seats" }
                    div.pair {
                        (filled.input(&Field { name: "capacity", label: "How many", kind: "number", ..Field::default() }))
                        (filled.input(&Field { name: "price", label: "Price of one", hint: "Such as 25 or 25.50; empty is free.", max_length: 12, is_required: false, ..Field::default() }))
                        (filled.select(&Field { name: "currency", label: "Currency", ..Field::default() }, &[("EUR", "Euro"), ("USD", "US dollar"), ("GBP", "Pound"), ("CHF", "Swiss franc"), ("PLN", "Złoty"), ("SEK", "Swedish krona")]))
                    }
                }
                (tick("published", "Everyone may see it", "Leave it empty to keep a draft that only you see.", filled))
                div.row {
                    button.button.buy { @if event.is_some() { "Save" } @else { "Create event" } }
                    a href="/organise" { "Back without saving" }
                }
            }
            @if let Some(event) = event.filter(|event| event.status == Status::Draft) {
                details.section {
                    summary { "Delete this draft" }
                    div.stack.sheet {
                        p { "It is gone for good. An event that somebody has bought, held or talked about stays." }
                        (frame.press(&format!("/organise/events/{}/delete", event.id), "button bad", html! { "Delete the draft for good" }))
                    }
                }
            }
            @if let Some(event) = event.filter(|event| event.status == Status::Published) {
                details.section {
                    summary { "Cancel this event" }
                    div.stack.sheet {
                        p { "Sales stop at once, the page says so, and everyone who paid is refunded and told by mail. This cannot be undone." }
                        (frame.press(&format!("/organise/events/{}/cancel", event.id), "button bad", html! { "Cancel the event for good" }))
                    }
                }
            }
        }
    }
}

fn tick(name: &str, label: &str, hint: &str, filled: &Filled<'_>) -> Markup {
    html! {
        label.choice {
            input type="checkbox" name=(name) value="on" checked[!(filled.values)(name).is_empty()];
            span { (label) small { (hint) } }
        }
    }
}

/// Who bought tickets, and how it sells.
pub(crate) fn orders(
    event: &Event,
    seats: Option<&Seats>,
    views: i64,
    orders: &[(Order, usize)],
    older: Option<&str>,
    is_first: bool,
) -> Markup {
    let base = format!("/organise/events/{}", event.id);
    html! {
        div.head {
            p { a href="/organise" { "Your events" } " / " a href=(base) { (event.name) } }
            h1 { "Who comes" }
        }
        @if let Some(seats) = seats {
            dl.tally {
                div { dt.label { "Sold" } dd { (words::thousands(seats.sold.into())) } }
                div { dt.label { "Held" } dd { (words::thousands(seats.held.into())) } }
                div { dt.label { "Left" } dd { (words::thousands(seats.free().into())) } }
                div { dt.label { "Capacity" } dd { (words::thousands(seats.capacity.into())) } }
                div { dt.label { "Page views" } dd { (words::thousands(views)) } }
            }
        }
        div.section.row.apart { h2 { "Orders" } a.button.plain.noprint href={ (base) "/door" } { "Check in at the door" } }
        @if orders.is_empty() {
            div.empty {
                p { "Nobody has bought a ticket yet. Tell people where the page is:" }
                a href={ "/events/" (event.id) } { "/events/" (event.id) }
            }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Orders" {
                table {
                    thead { tr { th scope="col" { "Order" } th scope="col" { "Name" } th scope="col" { "Seats" } th scope="col" { "Checked in" } th scope="col" { "Paid" } th scope="col" { "When" } } }
                    tbody {
                        @for (order, used) in orders {
                            tr {
                                td.print { (order.number) }
                                td { (order.attendee) br; span.small.soft { (order.email) } }
                                td { (order.quantity) }
                                td { (used) }
                                td.print { (words::price(order.amount_cents, &order.currency)) }
                                td.print { (words::moment(order.created_at_ms)) }
                            }
                        }
                    }
                }
            }
        }
        (pager("Pages of orders", (!is_first).then_some(format!("{base}/orders")).as_deref(), older, ("Newest", "Older orders")))
    }
}

/// What became of a code at the door.
pub(crate) enum Door {
    /// Nothing was tried yet.
    Waiting,
    /// Let them in.
    Welcome { attendee: String, quantity: i32 },
    /// The ticket was used before.
    Used { attendee: String, at_ms: i64 },
    /// Not a ticket of this event.
    Wrong(&'static str),
}

pub(crate) fn door(frame: &Frame, event: &Event, door: &Door) -> Markup {
    let base = format!("/organise/events/{}", event.id);
    html! {
        div.middle {
            div.head {
                p { a href={ (base) "/orders" } { "Who comes to " (event.name) } }
                h1 { "At the door" }
            }
            @match door {
                Door::Waiting => {},
                Door::Welcome { attendee, quantity } => div.note.good role="status" { strong { "Welcome, " (attendee) "." } @if *quantity > 1 { " One of " (quantity) " tickets." } },
                Door::Used { attendee, at_ms } => div.note.bad role="alert" { strong { "Used before" } " by " (attendee) ", " (words::moment(*at_ms)) "." },
                Door::Wrong(why) => div.note.bad role="alert" { strong { "No entry: " } (why) },
            }
            form.form.sheet method="post" action={ (base) "/door" } {
                (frame.token())
                div.field {
                    label for="code" { "Ticket code" }
                    p.hint #code-hint { "Scan the code on the ticket, or type what is printed below it." }
                    input #code name="code" required autofocus autocomplete="off" autocapitalize="characters" maxlength="300" aria-describedby="code-hint";
                }
                button.button.buy { "Check in" }
            }
        }
    }
}
