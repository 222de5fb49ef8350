//! What the tests share: a booted site without the demo, and rows to begin with.

use std::path::{Path, PathBuf};

use boxoffice::{
    models::{Event, Organiser, Stamp, User, events, events::Form, organisers, search, users},
    purchase::{Desk, Want},
};
use sea_orm::{EntityTrait, IntoActiveModel};
use throng::{Ctx, testing};

pub(crate) struct House {
    pub(crate) site: testing::Site,
    pub(crate) cx: Ctx,
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::open_with(testing::Boot::default()).await
    }

    pub(crate) async fn open_with(boot: testing::Boot) -> Self {
        let site = boot.boot(boxoffice::empty()).await;
        let cx = site.ctx();
        Self { site, cx }
    }

    pub(crate) fn desk(&self) -> Desk {
        Desk::of(&self.cx)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::new(&self.cx.ids, &self.cx.clock)
    }

    pub(crate) async fn user(&self, username: &str) -> User {
        let stamp = self.stamp();
        let user = User {
            id: stamp.id,
            username: username.into(),
            email: format!("{username}@example.com"),
            password: "!".into(),
            name: username.into(),
            bio: String::new(),
            is_staff: false,
            is_active: true,
            joined_at_ms: stamp.at_ms,
        };
        let insert = users::Entity::insert(user.clone().into_active_model());
        insert.exec_without_returning(&self.cx.db).await.unwrap();
        user
    }

    pub(crate) async fn organiser(&self, username: &str) -> Organiser {
        let user = self.user(username).await;
        organisers::ensure(&self.cx.db, self.stamp(), &user).await.unwrap()
    }

    /// An event like `form`, whose empty fields are filled in.
    pub(crate) async fn event(&self, organiser: &Organiser, mut form: Form) -> Event {
        let fill = |field: &mut String, value: &str| {
            if field.is_empty() {
                *field = value.to_owned();
            }
        };
        fill(&mut form.name, "RustFest");
        fill(&mut form.starts_on, "2026-05-01");
        fill(&mut form.city, "Zürich");
        fill(&mut form.country, "Switzerland");
        fill(&mut form.topic, "rust");
        fill(&mut form.capacity, "50");
        form.published.get_or_insert_with(|| "on".into());
        let draft = form.check().unwrap();
        let tx = self.cx.db.begin().await.unwrap();
        let event = events::create(&tx, self.stamp(), organiser.id, &draft).await.unwrap();
        search::refresh(&tx, event.id).await.unwrap();
        tx.commit().await.unwrap();
        event
    }

    /// An event with this many seats at this price.
    pub(crate) async fn sale(&self, capacity: i32, price: &str) -> Event {
        let organiser = match organisers::of_owner(&self.cx.db, 1).await.unwrap() {
            Some(organiser) => organiser,
            None => self.organiser(&format!("organiser{}", self.cx.ids.next())).await,
        };
        let form = Form { capacity: capacity.to_string(), price: price.into(), ..Form::default() };
        self.event(&organiser, form).await
    }
}

pub(crate) fn want(event: &Event, user: &User, quantity: i32) -> Want {
    Want { event_id: event.id, user_id: user.id, quantity }
}

/// The real binary with a folder of its own: what an operator types.
pub(crate) fn boxoffice(folder: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command
        .current_dir(folder)
        .env_clear()
        .env("THRONG_DATA", folder.join("data"))
        .env("THRONG_BUS_ALLOW_SPLIT", "true")
        .env("THRONG_LOG_LEVEL", "warn")
        .kill_on_drop(true);
    command
}

/// The database of a folder that the binary works in.
pub(crate) async fn database(folder: &Path) -> throng::db::Db {
    let path: PathBuf = folder.join("data/site.db");
    throng::db::Db::sqlite(path).await.unwrap()
}
