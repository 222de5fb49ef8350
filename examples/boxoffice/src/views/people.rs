//! People and organisers, who follows them, and the timeline of whom one follows.

use maud::{Markup, html};

use super::{art, browse::pager, cards, layout::Frame, talk, words};
use crate::models::{Comment, Event, Organiser, Seats, User};

/// A follow or unfollow button, or the way to one for strangers; nothing for oneself.
pub(crate) fn follow(frame: &Frame, target: &str, is_following: Option<bool>) -> Markup {
    match is_following {
        _ if frame.reader.is_none() => {
            html! { a.button.small href=(frame.sign_in()) { "Sign in to follow" } }
        }
        None => html! {},
        Some(true) => frame.press(
            &format!("{target}/unfollow"),
            "button small plain",
            html! { "Following" span.hush { ": stop" } },
        ),
        Some(false) => frame.press(&format!("{target}/follow"), "button small", html! { "Follow" }),
    }
}

/// A person's page.
pub(crate) struct Person<'a> {
    pub(crate) user: &'a User,
    pub(crate) followers: i64,
    pub(crate) is_following: Option<bool>,
    pub(crate) comments: &'a [(Comment, Event)],
    pub(crate) older: Option<String>,
    pub(crate) follows: &'a [Followed],
}

/// Someone or something that a person follows.
pub(crate) struct Followed {
    pub(crate) link: String,
    pub(crate) name: String,
}

pub(crate) fn person(frame: &Frame, person: &Person<'_>) -> Markup {
    let user = person.user;
    let is_me = frame.reader.as_ref().is_some_and(|reader| reader.id == user.id);
    html! {
        div.person {
            (art::face(&user.username, talk::name(user), true))
            div.words {
                h1 { (talk::name(user)) }
                p.print.soft { "@" (user.username) " · here since " (words::month(user.joined_at_ms)) }
                p.counts { span { b { (words::thousands(person.followers)) } " " (if person.followers == 1 { "follower" } else { "followers" }) } }
            }
            @if is_me { a.button.small.plain href="/settings" { "Edit profile" } }
            @else { (follow(frame, &format!("/people/{}", super::encode(&user.username)), person.is_following)) }
        }
        @if !user.bio.is_empty() { p.text.pre { (user.bio) } }
        @if !person.follows.is_empty() {
            section.section aria-labelledby="follows" {
                div.row { h2 #follows { "Follows" } }
                ul.chips role="list" { @for followed in person.follows { li { a.chip href=(followed.link) { (followed.name) } } } }
            }
        }
        section.section aria-labelledby="said" {
            div.row { h2 #said { "Said" } }
            @if person.comments.is_empty() {
                div.empty {
                    p { @if is_me { "You have not said anything yet. Every event has a discussion." } @else { "Nothing yet." } }
                    @if is_me { a.button href="/events" { "Find an event" } }
                }
            }
            ul role="list" { @for (comment, event) in person.comments { (said(comment, event)) } }
            (pager("Pages of comments", None, person.older.as_deref(), ("", "Older")))
        }
    }
}

fn said(comment: &Comment, event: &Event) -> Markup {
    html! {
        li.stack-small.said-on {
            p.small.soft {
                "On " a href={ "/events/" (event.id) "#comment-" (comment.id) } { (event.name) } ", " (words::moment(comment.created_at_ms))
            }
            p.pre.text { (comment.body) }
        }
    }
}

/// An organiser's public page.
pub(crate) struct Host<'a> {
    pub(crate) organiser: &'a Organiser,
    pub(crate) followers: i64,
    pub(crate) is_following: Option<bool>,
    pub(crate) today: &'a str,
    pub(crate) coming: &'a [(Event, Option<Seats>)],
    pub(crate) past: &'a [(Event, Option<Seats>)],
}

pub(crate) fn host(frame: &Frame, host: &Host<'_>) -> Markup {
    let organiser = host.organiser;
    html! {
        div.person {
            (art::face(&organiser.id.to_string(), &organiser.name, true))
            div.words {
                p.label { "Organiser" }
                h1 { (organiser.name) }
                p.counts {
                    span { b { (words::thousands(host.followers)) } " " (if host.followers == 1 { "follower" } else { "followers" }) }
                    @if !organiser.website.is_empty() { a href={ "https://" (organiser.website) } rel="nofollow noopener ugc" { (organiser.website) } }
                }
            }
            (follow(frame, &format!("/organisers/{}", organiser.id), host.is_following))
        }
        @if !organiser.about.is_empty() { p.text.pre { (organiser.about) } }
        @if host.coming.is_empty() && host.past.is_empty() {
            div.empty { p { "No events yet. Follow to hear of the first." } a.button.plain href="/events" { "Browse other events" } }
        }
        @if !host.coming.is_empty() {
            section.section aria-labelledby="coming" {
                div.row { h2 #coming { "Coming up" } }
                ul.cards role="list" { @for (event, seats) in host.coming { (cards::card(event, seats.as_ref(), host.today)) } }
            }
        }
        @if !host.past.is_empty() {
            section.section aria-labelledby="past" {
                div.row { h2 #past { "Past" } }
                ul.rows role="list" { @for (event, seats) in host.past { (cards::line(event, seats.as_ref(), host.today, None)) } }
            }
        }
    }
}

/// Something that happened among those whom the reader follows.
pub(crate) enum Happening<'a> {
    /// An organiser announced an event.
    Announced { organiser: &'a Organiser, event: &'a Event },
    /// A person said something.
    Said { author: &'a User, comment: &'a Comment, event: &'a Event },
}

pub(crate) fn timeline(
    happenings: &[Happening<'_>],
    older: Option<&str>,
    is_first: bool,
) -> Markup {
    html! {
        div.head { h1 { "Timeline" } p { "What the people and organisers you follow announce and say." } }
        @if happenings.is_empty() {
            div.empty {
                @if is_first {
                    h2 { "Quiet so far" }
                    p { "Follow an organiser on an event's page, or someone whose comment you liked; what they do shows up here." }
                } @else { h2 { "That was everything" } }
                a.button href="/events" { "Find events" }
            }
        }
        ol role="list" {
            @for happening in happenings {
                @match happening {
                    Happening::Announced { organiser, event } => li.said {
                        (art::face(&organiser.id.to_string(), &organiser.name, false))
                        header {
                            span { a href={ "/organisers/" (organiser.id) } { (organiser.name) } " announced an event" }
                            span.print.soft { (words::moment(event.created_at_ms)) }
                        }
                        div.body { a.strong href={ "/events/" (event.id) } { (event.name) } br; span.soft { (words::days(&event.starts_on, &event.ends_on)) " · " (cards::place(event)) } }
                    },
                    Happening::Said { author, comment, event } => li.said {
                        (art::face(&author.username, talk::name(author), false))
                        header {
                            span { a href={ "/people/" (super::encode(&author.username)) } { (talk::name(author)) } " on " a href={ "/events/" (event.id) "#comment-" (comment.id) } { (event.name) } }
                            span.print.soft { (words::moment(comment.created_at_ms)) }
                        }
                        div.body { (comment.body) }
                    },
                }
            }
        }
        (pager("Pages of the timeline", (!is_first).then_some("/timeline"), older, ("Newest", "Older")))
    }
}
