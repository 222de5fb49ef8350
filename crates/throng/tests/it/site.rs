//! The site that the tests visit.

use std::{convert::Infallible, time::Duration};

use serde::{Deserialize, Serialize};
use throng::{
    App, Ctx, Error, Result, Task, Visitor,
    web::{
        Asset, Bytes, Form, Html, Json, Level, Path, Redirect, Sse, get, post,
        sse::{Event, KeepAlive},
    },
};

pub(crate) fn app() -> App {
    App::new("shop")
        .about("A shop for tests")
        .route("/", get(async || Html("<h1>hello</h1>")))
        .route("/pid", get(async || std::process::id().to_string()))
        .route("/ping", get(async |cx: Ctx| Ok::<_, Error>(cx.db.ping().await?)))
        .route("/write", post(async |cx: Ctx| Ok::<_, Error>(cx.db.begin().await?.commit().await?)))
        .route("/long", get(async || Html("<p>all work and no play</p>\n".repeat(200))))
        .route("/shows/{id}", get(show))
        .route("/name", get(name_form).post(name))
        .route("/me", get(me))
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/remember/{letters}", get(remember))
        .route("/echo", post(async |body: Bytes| body.len().to_string()))
        .route("/api/echo", post(async |Json(value): Json<serde_json::Value>| Json(value)))
        .route("/hook/echo", post(async |body: Bytes| body.len().to_string()))
        .route("/panic", get(panics))
        .route("/broken", get(broken))
        .route("/refused", get(async || Err::<(), _>(Error::refused("only 2 <seats> are left"))))
        .route("/busy", get(async || Err::<(), _>(Error::unavailable(Duration::from_secs(7)))))
        .route("/slow", get(slow))
        .route("/hook/slow", post(slow_write))
        .route("/later", post(later))
        .route("/ticks", get(ticks))
        .assets(ASSETS)
        .task::<Note>()
        .task::<Shout>()
        .sign_in_path("/sign-in")
        .accept_from_anywhere("/hook")
        .provide(Greeting("good evening"))
}

pub(crate) const ASSETS: &[Asset] = &[
    Asset::new("site.css", CSS),
    Asset::new("icons/seat.svg", b"<svg/>"),
    Asset::new("favicon.ico", b"\0\0\x01\0"),
];

const CSS: &[u8] = &[b'a'; 2000];

#[derive(Debug, PartialEq)]
pub(crate) struct Greeting(pub(crate) &'static str);

async fn show(Path(id): Path<i64>) -> Result<Html<String>> {
    if id > 100 {
        return Err(Error::not_found("there is no such show"));
    }
    Ok(Html(format!("<h1>show {id}</h1>")))
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn name_form(who: Visitor) -> Result<Html<String>> {
    let said: Vec<String> = who.messages().into_iter().map(|message| message.text).collect();
    let name: Option<String> = who.recall("name");
    let field = who.csrf_field()?;
    Ok(Html(format!("<form method=post>{field}</form>{name:?} {said:?}")))
}

async fn name(who: Visitor, Form(form): Form<Name>) -> Result<Redirect> {
    who.remember("name", &form.name)?;
    who.say(Level::Success, format!("hello {}", form.name));
    Ok(Redirect::to("/name"))
}

async fn me(who: Visitor) -> Result<String> {
    Ok(who.require()?.to_string())
}

#[derive(Deserialize)]
struct Login {
    user: i64,
}

async fn sign_in(who: Visitor, Form(login): Form<Login>) -> Result<Redirect> {
    who.sign_in(login.user, "the stored password")?;
    Ok(Redirect::to("/me"))
}

async fn sign_out(who: Visitor) -> Result<Redirect> {
    who.sign_out()?;
    Ok(Redirect::to("/"))
}

async fn remember(who: Visitor, Path(letters): Path<usize>) -> Result<&'static str> {
    // Digits that no compression gets rid of.
    let mut number = 1_u64;
    let digits = (0..letters).map(|_| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'!' + u8::try_from(number >> 58).unwrap())
    });
    who.remember("much", digits.collect::<String>())?;
    Ok("kept")
}

async fn panics() -> &'static str {
    panic!("a defect");
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(700)).await;
    "finished"
}

/// Writes where the process stands, after a while that nobody may cut short.
async fn slow_write() -> Result {
    tracing::info!("a slow write begins");
    tokio::time::sleep(Duration::from_millis(700)).await;
    Ok(std::fs::write("written", "")?)
}

async fn later(cx: Ctx) -> Result {
    cx.queue.push(Note { text: "later".to_owned() }).await?;
    Ok(())
}

/// A stream without an end, as a page that watches something has.
async fn ticks() -> Sse<impl futures_util::Stream<Item = Result<Event, Infallible>>> {
    let ticks = futures_util::stream::unfold(0, |tick: u32| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(Event::default().data(tick.to_string())), tick + 1))
    });
    Sse::new(ticks).keep_alive(KeepAlive::default())
}

/// Leaves a note, or fails if it says so.
#[derive(Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

impl Task for Note {
    const NAME: &'static str = "note";
    const QUEUE: &'static str = "notes";

    async fn run(self, cx: Ctx) -> Result {
        match self.text.as_str() {
            "refuse" => Err(Error::refused("no such note")),
            "break" => Err(std::io::Error::other("out of ink").into()),
            text => {
                cx.bus.publish("notes", &text).await?;
                Ok(())
            }
        }
    }
}

/// For workers that choose by name; it does nothing.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Shout {}

impl Task for Shout {
    const NAME: &'static str = "mail.shout";
    const QUEUE: &'static str = "notes";

    async fn run(self, _: Ctx) -> Result {
        Ok(())
    }
}

async fn broken() -> Result<&'static str> {
    Err(std::io::Error::other("the disk is on fire"))?;
    Ok("fine")
}
