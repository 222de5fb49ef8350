//! A guest book: a page, a form, a task, a command. Run it, then look at http://127.0.0.1:8000.
//!
//! ```text
//! cargo run -p throng --example guestbook
//! cargo run -p throng --example guestbook -- task list
//! cargo run -p throng --example guestbook -- say "from the command line"
//! ```

use std::process::ExitCode;

use sea_orm::ConnectionTrait;
use sea_query::{ColumnDef, Order, Query, Table};
use serde::{Deserialize, Serialize};
use throng::{
    App, Command, Ctx, Error, Result, Task, Visitor,
    db::{Migration, Schema, Tx},
    web::{Form, Html, Level, Redirect, get},
};

fn main() -> ExitCode {
    app().run()
}

fn app() -> App {
    App::new("guestbook")
        .about("A guest book")
        .migrations(MIGRATIONS)
        .route("/", get(read).post(write))
        .task::<Thank>()
        .command::<Say>()
}

const MIGRATIONS: &[Migration] =
    &[Migration::new("guestbook_0001_entry", |schema: &mut Schema| {
        let id = ColumnDef::new("id").big_integer().primary_key().to_owned();
        let text = ColumnDef::new("text").text().not_null().to_owned();
        schema.table(Table::create().table("guestbook_entry").col(id).col(text).to_owned());
    })];

async fn read(cx: Ctx, who: Visitor) -> Result<Html<String>> {
    let newest = Query::select()
        .column("text")
        .from("guestbook_entry")
        .order_by("id", Order::Desc)
        .limit(20)
        .to_owned();
    let mut page = format!(
        "<form method=post>{}<input name=text><button>Sign</button></form>",
        who.csrf_field()?
    );
    for message in who.messages() {
        page.push_str(&format!("<p role=status>{}</p>", escape(&message.text)));
    }
    for row in cx.db.read().query_all(&newest).await? {
        let text: String = row.try_get("", "text")?;
        page.push_str(&format!("<p>{}</p>", escape(&text)));
    }
    Ok(Html(page))
}

#[derive(Deserialize)]
struct Entry {
    text: String,
}

async fn write(cx: Ctx, who: Visitor, Form(entry): Form<Entry>) -> Result<Redirect> {
    if entry.text.trim().is_empty() {
        return Err(Error::invalid("please write something"));
    }
    let tx = cx.db.begin().await?;
    let id = insert(&cx, &tx, &entry.text).await?;
    cx.queue.push_in(&tx, Thank { id }).await?;
    tx.commit().await?; // The task exists if, and only if, the entry does.
    who.say(Level::Success, "thank you for signing");
    Ok(Redirect::to("/"))
}

async fn insert(cx: &Ctx, tx: &Tx, text: &str) -> Result<i64> {
    let id = cx.ids.next();
    let entry = Query::insert()
        .into_table("guestbook_entry")
        .columns(["id", "text"])
        .values_panic([id.into(), text.into()])
        .to_owned();
    tx.execute(&entry).await?;
    Ok(id)
}

/// Thanks for an entry, some time after it was written.
#[derive(Serialize, Deserialize)]
struct Thank {
    id: i64,
}

impl Task for Thank {
    const NAME: &'static str = "thank";

    async fn run(self, _cx: Ctx) -> Result {
        tracing::info!(entry.id = self.id, "thanking for entry {}", self.id);
        Ok(())
    }
}

/// Write an entry from the command line
#[derive(clap::Args)]
struct Say {
    /// What to write
    text: String,
}

impl Command for Say {
    const NAME: &'static str = "say";

    async fn run(self, cx: Ctx) -> Result {
        let tx = cx.db.begin().await?;
        insert(&cx, &tx, &self.text).await?;
        Ok(tx.commit().await?)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
