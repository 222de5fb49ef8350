//! The moderators' queue.

use maud::{Markup, html};

use super::{browse::pager, layout::Frame, talk, words};
use crate::models::{Comment, Event, User, reports::Model as Report};

/// A report with what it is about.
pub(crate) struct Case {
    pub(crate) report: Report,
    pub(crate) comment: Comment,
    pub(crate) author: Option<User>,
    pub(crate) reporter: Option<User>,
    pub(crate) event: Option<Event>,
}

pub(crate) fn queue(frame: &Frame, cases: &[Case], next: Option<&str>, is_first: bool) -> Markup {
    html! {
        div.head { h1 { "Moderation" } p { "Reported comments, oldest report first. Hiding takes a comment off every page at once." } }
        @if cases.is_empty() {
            div.empty { h2 { "Nothing to decide" } p { "Every report has been dealt with." } a.button.plain href="/events" { "Back to the events" } }
        }
        ul.stack role="list" {
            @for case in cases { (self::case(frame, case)) }
        }
        (pager("Pages of reports", (!is_first).then_some("/moderation"), next, ("Oldest", "Next page")))
    }
}

fn case(frame: &Frame, case: &Case) -> Markup {
    let comment = &case.comment;
    let who = |user: &Option<User>| user.as_ref().map_or("someone who left", talk::name).to_owned();
    let act = |verb: &str| format!("/moderation/comments/{}/{verb}", comment.id);
    html! {
        li.sheet.stack {
            div.row.apart {
                p.small.soft {
                    strong { (who(&case.author)) } " on "
                    @match &case.event {
                        Some(event) => a href={ "/events/" (event.id) } { (event.name) },
                        None => "a deleted event",
                    }
                    ", " (words::moment(comment.created_at_ms))
                }
                @if comment.is_hidden { span.tag.bad { "Hidden" } }
            }
            blockquote.quote.pre { (comment.body) }
            p {
                span.label { "Reported by " (who(&case.reporter)) } br;
                @if case.report.reason.is_empty() { span.soft { "No reason given." } } @else { (case.report.reason) }
            }
            div.row {
                @if comment.is_hidden { (frame.press(&act("restore"), "button small", html! { "Show it again" })) }
                @else { (frame.press(&act("hide"), "button small bad", html! { "Hide comment" })) }
                (frame.press(&act("dismiss"), "button small plain", html! { @if comment.is_hidden { "Keep hidden" } @else { "Nothing wrong" } }))
            }
        }
    }
}
