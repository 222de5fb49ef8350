//! Signing up, signing in, and what one says about oneself.

use maud::{Markup, html};

use super::{
    forms::{Field, Filled},
    layout::Frame,
};

pub(crate) fn sign_up(frame: &Frame, filled: &Filled<'_>, next: &str) -> Markup {
    html! {
        div.middle {
            div.head {
                h1 { "Sign up" }
                p { "For tickets, discussions and your own events. Have an account? " a href={ "/sign-in?next=" (super::encode(next)) } { "Sign in" } "." }
            }
            (filled.summary())
            form.form.sheet method="post" action="/sign-up" {
                (frame.token())
                input type="hidden" name="next" value=(next);
                (filled.input(&Field { name: "name", label: "Your name", hint: "As others read it, and on your tickets.", autocomplete: "name", max_length: 150, ..Field::default() }))
                (filled.input(&Field { name: "username", label: "Username", hint: "Lower case letters, digits and . _ -; it becomes your address here.", autocomplete: "username", max_length: 30, ..Field::default() }))
                (filled.input(&Field { name: "email", label: "Email", kind: "email", hint: "Tickets go there; nobody else sees it.", autocomplete: "email", max_length: 254, ..Field::default() }))
                (filled.input(&Field { name: "password", label: "Password", kind: "password", hint: "At least 8 characters; a short sentence is best.", autocomplete: "new-password", max_length: 128, ..Field::default() }))
                button.button { "Sign up" }
            }
        }
    }
}

pub(crate) fn sign_in(frame: &Frame, filled: &Filled<'_>, next: &str) -> Markup {
    html! {
        div.middle {
            div.head {
                h1 { "Sign in" }
                p { "New here? " a href={ "/sign-up?next=" (super::encode(next)) } { "Sign up" } " takes half a minute." }
            }
            (filled.summary())
            form.form.sheet method="post" action="/sign-in" {
                (frame.token())
                input type="hidden" name="next" value=(next);
                (filled.input(&Field { name: "username", label: "Username or email", autocomplete: "username", max_length: 254, ..Field::default() }))
                (filled.input(&Field { name: "password", label: "Password", kind: "password", autocomplete: "current-password", max_length: 128, ..Field::default() }))
                button.button { "Sign in" }
            }
        }
    }
}

pub(crate) fn settings(frame: &Frame, filled: &Filled<'_>) -> Markup {
    html! {
        div.middle {
            div.head {
                h1 { "Settings" }
                p { "What others read on " a href={ "/people/" (frame.reader.as_ref().map_or("", |reader| reader.username.as_str())) } { "your profile" } "." }
            }
            (filled.summary())
            form.form.sheet method="post" action="/settings" {
                (frame.token())
                (filled.input(&Field { name: "name", label: "Your name", autocomplete: "name", max_length: 150, ..Field::default() }))
                (filled.area(&Field { name: "bio", label: "About you", hint: "Plain text. What would you say to the person in the next seat?", max_length: 2_000, is_required: false, ..Field::default() }))
                button.button { "Save" }
            }
        }
    }
}
