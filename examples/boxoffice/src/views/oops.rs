//! What a visitor reads when something went wrong.

use maud::{Markup, html};

/// The words for a status: a title, and what to do now.
pub(crate) fn oops(status: u16, detail: &str, id: Option<&str>) -> Markup {
    let (title, advice) = advice(status);
    html! {
        div.oops {
            p.code aria-hidden="true" { (status) }
            h1 { (title) }
            p { @if detail.is_empty() { (advice) } @else { (super::sentence(detail)) " " (advice) } }
            div.row {
                @if status == 401 { a.button href="/sign-in" { "Sign in" } }
                a.button.plain href="/events" { "Browse events" }
                a.button.plain href="/" { "Front page" }
            }
            @if let Some(id) = id { p.small.soft { "If you write to us about this, mention " code { (id) } "." } }
        }
    }
}

fn advice(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => (
            "That request made no sense",
            "Something in the address or the form was not readable. Go back and try once more.",
        ),
        401 => ("Please sign in", "This page is about you, so it needs to know who you are."),
        403 => (
            "Not allowed",
            "Either this is not yours, or the page was open for so long that its form expired. Load it again and retry.",
        ),
        404 => (
            "No such page",
            "It may have moved, or the address has a typo. Searching usually finds it.",
        ),
        405 => ("Not like this", "This address exists but cannot be used that way."),
        409 => ("Somebody was faster", "What you asked for changed meanwhile. Look again."),
        413 => (
            "Too much at once",
            "What you sent is larger than the site accepts. Shorten it and send it again.",
        ),
        415 => ("Unknown format", "The site does not read this kind of content."),
        422 => (
            "Something is missing",
            "The form came without something it needs. Go back and fill it in.",
        ),
        429 => (
            "A little slower, please",
            "Too many tries in a short time. Wait a minute, then try again.",
        ),
        503 => (
            "Back in a moment",
            "The site is too busy or being restarted. Nothing was lost; try again in a few seconds.",
        ),
        500.. => (
            "Our mistake",
            "Something broke on our side and has been written down. Trying again may work.",
        ),
        _ => ("That did not work", "Go back and try once more."),
    }
}
