//! Whoever asks for a page, and what every page needs to know of them.

use std::net::SocketAddr;

use maud::Markup;
use throng::{
    Ctx, Error, Result, Site, Visitor,
    web::{
        ConnectInfo, FromRequestParts, HeaderMap, IntoResponse, Level, Redirect, Response,
        StatusCode, header, request::Parts,
    },
};

use crate::{
    models::{User, users},
    views::layout::{Files, Flash, Frame, Reader, Theme, Tone},
};

/// The visitor of a page, with the context to serve them.
pub(crate) struct Guest {
    pub(crate) cx: Ctx,
    pub(crate) who: Visitor,
    /// The address that the request came from, if it came over a socket.
    pub(crate) client: String,
    user: Option<User>,
    here: String,
    theme: Theme,
}

impl Guest {
    /// Who is signed in.
    pub(crate) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Who is signed in; others are sent to do so.
    pub(crate) fn member(&self) -> Result<&User> {
        self.user.as_ref().ok_or_else(Error::sign_in)
    }

    /// The moderator who asks; others are told that the page is not theirs.
    pub(crate) fn moderator(&self) -> Result<&User> {
        let user = self.member()?;
        if user.is_staff { Ok(user) } else { Err(Error::plain(StatusCode::FORBIDDEN)) }
    }

    /// Today, as events write their days.
    pub(crate) fn today(&self) -> String {
        crate::views::words::day(self.cx.clock.now_ms())
    }

    /// What stands around a page. Takes the visitor's messages: call it once, for the answer.
    pub(crate) fn frame(&self) -> Result<Frame> {
        let mut frame = self.quiet();
        frame.flashes = self.who.messages().into_iter().map(flash).collect();
        if self.user.is_some() {
            frame.csrf = self.who.csrf_token()?;
        }
        Ok(frame)
    }

    /// The frame of a page that shows a form to strangers too.
    pub(crate) fn frame_with_form(&self) -> Result<Frame> {
        let mut frame = self.frame()?;
        if frame.csrf.is_empty() {
            frame.csrf = self.who.csrf_token()?;
        }
        Ok(frame)
    }

    /// Goes to `path` and says `words` there.
    pub(crate) fn told(&self, path: &str, words: impl Into<String>) -> Response {
        self.who.say(Level::Success, words);
        Redirect::to(path).into_response()
    }

    /// Goes to `path` and says there what went wrong.
    pub(crate) fn warned(&self, path: &str, words: impl Into<String>) -> Response {
        self.who.say(Level::Error, words);
        Redirect::to(path).into_response()
    }

    fn quiet(&self) -> Frame {
        Frame {
            theme: self.theme,
            reader: self.user.as_ref().map(reader),
            here: self.here.clone(),
            files: files(&self.cx),
            ..Frame::default()
        }
    }
}

impl FromRequestParts<Site> for Guest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self> {
        let Ok(cx) = Ctx::from_request_parts(parts, site).await;
        let who = Visitor::from_request_parts(parts, site).await?;
        let user = match who.user() {
            Some(id) => users::find(&cx.db, id).await?.filter(|user| user.is_active),
            None => None,
        };
        let here = parts.uri.path_and_query().map_or("/", |here| here.as_str()).to_owned();
        let theme = theme(&parts.headers);
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let client = client.map(|ConnectInfo(at)| at.ip().to_string()).unwrap_or_default();
        Ok(Self { cx, who, client, user, here, theme })
    }
}

/// A page that shows the form again with its problems.
pub(crate) fn again(page: Markup) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, page).into_response()
}

/// Where a form wants to go afterwards: a path of this site, or the front page.
pub(crate) fn local(next: &str) -> &str {
    let is_local = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains(['\\', '\r', '\n', '\t']);
    if is_local { next } else { "/" }
}

/// Addresses of the static files.
pub(crate) fn files(cx: &Ctx) -> Files {
    Files {
        css: cx.asset("site.css").into_owned(),
        js: cx.asset("site.js").into_owned(),
        icon: cx.asset("icon.svg").into_owned(),
    }
}

fn reader(user: &User) -> Reader {
    Reader {
        id: user.id,
        username: user.username.clone(),
        name: crate::views::talk::name(user).to_owned(),
        is_staff: user.is_staff,
    }
}

fn flash(message: throng::web::Message) -> Flash {
    let tone = match message.level {
        Level::Error | Level::Warning => Tone::Bad,
        _ => Tone::Good,
    };
    Flash { tone, text: message.text }
}

fn theme(headers: &HeaderMap) -> Theme {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix("theme=")).map_or(Theme::Auto, Theme::named)
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn forms_lead_nowhere_but_here() {
        assert_eq!(local("/events/1?a=b"), "/events/1?a=b");
        for elsewhere in
            ["", "https://evil.example", "//evil.example", "/\\evil", "events", "/a\r\nb"]
        {
            assert_eq!(local(elsewhere), "/", "{elsewhere:?}");
        }
    }
}
