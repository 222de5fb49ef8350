//! What every page has around its content: head, header, messages, footer.

use maud::{DOCTYPE, Markup, html};

use super::{art, icons};

/// What the frame of a page needs to know about its reader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    /// Colours the reader asked for.
    pub(crate) theme: Theme,
    /// Who is signed in.
    pub(crate) reader: Option<Reader>,
    /// The path of this page, for the menu and for coming back.
    pub(crate) here: String,
    /// Messages left by the request before this one.
    pub(crate) flashes: Vec<Flash>,
    /// Addresses of the static files.
    pub(crate) files: Files,
    /// Whether the page does not know its reader, and so greets nobody.
    pub(crate) is_bare: bool,
    /// The token that forms send back; empty for strangers on pages without forms.
    pub(crate) csrf: String,
}

/// Addresses of the static files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) css: String,
    pub(crate) js: String,
    pub(crate) icon: String,
}

/// The person who reads the page.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) name: String,
    pub(crate) is_staff: bool,
}

/// Which colours to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// What the reader's system prefers.
    #[default]
    Auto,
    Light,
    Dark,
}

/// A message shown once, on the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flash {
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

/// How a message looks and is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
}

impl Frame {
    /// The whole page around `body`.
    pub(crate) fn page(&self, title: &str, body: Markup) -> Markup {
        self.described(title, "", body)
    }

    /// The whole page, with a sentence for search engines and link previews.
    pub(crate) fn described(&self, title: &str, description: &str, body: Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[self.theme.forced()] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) " · boxoffice" }
                    @if !description.is_empty() {
                        meta name="description" content=(description);
                        meta property="og:title" content=(title);
                        meta property="og:description" content=(description);
                    }
                    meta name="color-scheme" content="light dark";
                    meta name="theme-color" media="(prefers-color-scheme: light)" content="#ffffff";
                    meta name="theme-color" media="(prefers-color-scheme: dark)" content="#161e1b";
                    link rel="icon" href=(self.files.icon) type="image/svg+xml";
                    link rel="stylesheet" href=(self.files.css);
                    script type="module" src=(self.files.js) {}
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    (self.top())
                    main #main.wrap tabindex="-1" {
                        @for flash in &self.flashes {
                            @match flash.tone {
                                Tone::Good => div.note.good role="status" { (flash.text) },
                                Tone::Bad => div.note.bad role="alert" { (flash.text) },
                            }
                        }
                        (body)
                    }
                    (self.bottom())
                }
            }
        }
    }

    /// The hidden field that a form needs to be believed.
    pub(crate) fn token(&self) -> Markup {
        html! { input type="hidden" name="csrfmiddlewaretoken" value=(self.csrf); }
    }

    /// A one-button form.
    pub(crate) fn press(&self, action: &str, class: &str, words: Markup) -> Markup {
        html! {
            form method="post" action=(action) {
                (self.token())
                button.(class) { (words) }
            }
        }
    }

    /// Where to sign in and come back to this page.
    pub(crate) fn sign_in(&self) -> String {
        // From the sign-in page itself there is nowhere better to come back to.
        match self.here.starts_with("/sign-") {
            true => "/sign-in".into(),
            false => format!("/sign-in?next={}", super::encode(&self.here)),
        }
    }

    fn top(&self) -> Markup {
        html! {
            header.top {
                div.wrap {
                    a.brand href="/" { (icons::ticket()) "boxoffice" }
                    form.find role="search" action="/search" {
                        label.hush for="q" { "Search events" }
                        input #q type="search" name="q" placeholder="Search events" maxlength="100" autocomplete="off";
                        button { span.hush { "Search" } (icons::lens()) }
                    }
                    nav.nav aria-label="Main" {
                        ul role="list" {
                            @for (path, words) in self.places() {
                                li {
                                    a href=(path) aria-current=[self.is_here(path).then_some("page")] { (words) }
                                }
                            }
                        }
                    }
                    div.me {
                        @match &self.reader {
                            Some(reader) => (self.menu(reader)),
                            None if self.is_bare => {}
                            None => {
                                a href=(self.sign_in()) { "Sign in" }
                                a.button.small href="/sign-up" { "Sign up" }
                            }
                        }
                    }
                }
            }
        }
    }

    fn places(&self) -> &'static [(&'static str, &'static str)] {
        match self.reader {
            Some(_) => &[
                ("/events", "Browse"),
                ("/timeline", "Timeline"),
                ("/tickets", "My tickets"),
                ("/organise", "Organise"),
            ],
            None => &[("/events", "Browse"), ("/organise", "Organise"), ("/about", "How it works")],
        }
    }

    fn is_here(&self, path: &str) -> bool {
        self.here.split('?').next() == Some(path)
    }

    fn menu(&self, reader: &Reader) -> Markup {
        html! {
            details.who {
                summary {
                    span.hush { "Your menu: " }
                    (art::face(&reader.username, &reader.name, false))
                    span.name { (reader.name) }
                }
                div.sheet {
                    ul role="list" {
                        li { a href={ "/people/" (reader.username) } { "Your profile" } }
                        li { a href="/settings" { "Settings" } }
                        @if reader.is_staff { li { a href="/moderation" { "Moderation" } } }
                        li { (self.press("/sign-out", "linkish", html! { "Sign out" })) }
                    }
                }
            }
        }
    }

    fn bottom(&self) -> Markup {
        html! {
            footer.bottom {
                div.wrap {
                    nav aria-label="Footer" {
                        ul role="list" {
                            li { a href="/about" { "How it works" } }
                            li { a href="/organise" { "For organisers" } }
                            li { a href="/api" { "API" } }
                        }
                    }
                    form.themes action="/theme" {
                        input type="hidden" name="back" value=(self.here);
                        span #theme-words { "Colours" }
                        div role="group" aria-labelledby="theme-words" {
                            @for (name, words, theme) in [
                                ("auto", "Auto", Theme::Auto),
                                ("light", "Light", Theme::Light),
                                ("dark", "Dark", Theme::Dark),
                            ] {
                                button name="set" value=(name)
                                    aria-pressed=(if self.theme == theme { "true" } else { "false" }) { (words) }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Theme {
    /// The theme that a cookie or a form names; anything else is automatic.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }

    fn forced(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Light => Some("light"),
            Self::Dark => Some("dark"),
        }
    }
}
