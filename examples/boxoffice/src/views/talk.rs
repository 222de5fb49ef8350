//! The discussion below an event.

use maud::{Markup, PreEscaped, html};

use super::{art, layout::Frame, words};
use crate::models::{Comment, Problems, User, comments};

/// The discussion: the form is the reader's own, the list is everybody's.
pub(crate) fn talk(
    frame: &Frame,
    event_id: i64,
    list: &str,
    typed: &str,
    problems: &Problems,
) -> Markup {
    html! {
        section #talk aria-labelledby="talk-title" {
            div.row.apart { h2 #talk-title { "Discussion" } }
            @if frame.reader.is_some() {
                form.form.wide method="post" action={ "/events/" (event_id) "/comments" } {
                    (frame.token())
                    div.field {
                        label for="f-body" { "Say something" }
                        textarea #f-body name="body" required maxlength=(comments::MAX_CHARS)
                            aria-invalid=[problems.of("body").map(|_| "true")]
                            aria-describedby=[problems.of("body").map(|_| "w-body")] { "\n" (typed) }
                        @if let Some(problem) = problems.of("body") { p.wrong #w-body role="alert" { (super::capital(problem)) } }
                    }
                    div { button.button { "Post comment" } }
                }
            } @else {
                p { a href=(frame.sign_in()) { "Sign in" } " to take part. Reading is open to everybody." }
            }
            (PreEscaped(list))
        }
    }
}

/// A page of comments, newest first, with ways to older and newer ones.
pub(crate) fn comments(
    event_id: i64,
    said: &[(Comment, User)],
    older: Option<i64>,
    is_first: bool,
) -> Markup {
    html! {
        div.fresh { button.button.small type="button" hidden aria-live="polite" {} }
        ol role="list" data-comments[is_first] aria-label="Comments, newest first" {
            @for (comment, author) in said { (self::comment(Said::by(author, comment))) }
            @if said.is_empty() {
                li.empty { p { "Nobody has said anything yet. Ask what you would like to know." } }
            }
        }
        @if older.is_some() || !is_first {
            nav.pager aria-label="Pages of comments" {
                @if is_first { span {} } @else { a.button.plain href={ "/events/" (event_id) "#talk" } { "← Newest" } }
                @if let Some(older) = older {
                    a.button.plain rel="next" href={ "/events/" (event_id) "?before=" (older) "#talk" } { "Older comments →" }
                }
            }
        }
    }
}

/// A comment as it is shown.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) id: i64,
    pub(crate) username: &'a str,
    pub(crate) name: &'a str,
    pub(crate) body: &'a str,
    pub(crate) created_at_ms: i64,
}

impl<'a> Said<'a> {
    pub(crate) fn by(author: &'a User, comment: &'a Comment) -> Self {
        Self {
            id: comment.id,
            username: &author.username,
            name: name(author),
            body: &comment.body,
            created_at_ms: comment.created_at_ms,
        }
    }
}

/// One comment, the same for every reader.
pub(crate) fn comment(said: Said<'_>) -> Markup {
    html! {
        li.said id={ "comment-" (said.id) } {
            (art::face(said.username, said.name, false))
            header {
                a href={ "/people/" (super::encode(said.username)) } { (said.name) }
                span.print.soft {
                    time datetime=(words::stamp(said.created_at_ms)) { (words::moment(said.created_at_ms)) }
                }
            }
            div.body { (said.body) }
            div.acts {
                a.soft href={ "/comments/" (said.id) "/report" } { "Report" span.hush { " the comment by " (said.name) } }
            }
        }
    }
}

/// The page on which a comment is reported.
pub(crate) fn report(
    frame: &Frame,
    comment: &Comment,
    author: &User,
    problems: &Problems,
    typed: &str,
) -> Markup {
    html! {
        div.middle {
            div.head {
                h1 { "Report a comment" }
                p { "A moderator reads every report. The author does not learn who reported." }
            }
            blockquote.sheet {
                p.small.soft { (name(author)) ", " (words::moment(comment.created_at_ms)) }
                p.pre { (comment.body) }
            }
            form.form method="post" action={ "/comments/" (comment.id) "/report" } {
                (frame.token())
                div.field {
                    label for="f-reason" { "What is wrong with it?" }
                    textarea #f-reason name="reason" required maxlength="500"
                        aria-invalid=[problems.of("reason").map(|_| "true")] { "\n" (typed) }
                    @if let Some(problem) = problems.of("reason") { p.wrong role="alert" { (super::capital(problem)) } }
                }
                div.row {
                    button.button { "Send report" }
                    a href={ "/events/" (comment.event_id) "#comment-" (comment.id) } { "Back to the discussion" }
                }
            }
        }
    }
}

/// What a person is called: their name, or their username while they have none.
pub(crate) fn name(user: &User) -> &str {
    if user.name.trim().is_empty() { &user.username } else { &user.name }
}
