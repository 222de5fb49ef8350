//! `boxoffice seed`: makes up any number of events, people, comments and follows.

use indicatif::{ProgressBar, ProgressStyle};
use jiff::civil::Date;
use throng::{Command, Ctx, Error, Result, db::Db};

use crate::{
    accounts::Hasher,
    models::{bulk, comments, counters, facets, follows, organisers, today, users},
};

mod dice;
mod made;
mod words;

use made::Made;

/// Makes up events, people, comments and follows
///
/// The same numbers, seed and day make the same rows with the same ids, on every machine. Ids begin
/// in the year 2020, before those of any site, at a place of their own for each seed: seeds can be
/// added to a site one after another, and each once.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Seed {
    /// Events
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub events: u32,
    /// People [default: one for ten events]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub people: Option<u32>,
    /// Comments [default: two for an event]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100_000_000))]
    pub comments: Option<u32>,
    /// Follows of people and organisers [default: ten for a person]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100_000_000))]
    pub follows: Option<u32>,
    /// What the dice start from
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub seed: u32,
    /// The day around which events lie, such as 2026-05-01 [default: today]
    #[arg(long, value_name = "DAY")]
    pub around: Option<Date>,
    /// A password for everybody; without one nobody can sign in
    #[arg(long, value_name = "TEXT")]
    pub password: Option<String>,
}

const EXAMPLES: &str = "Examples:
  boxoffice seed
  boxoffice seed --events 100000 --people 5000 --around 2026-05-01
  boxoffice seed --events 50 --seed 2 --password open-sesame";

impl Command for Seed {
    const NAME: &'static str = "seed";

    async fn run(self, cx: Ctx) -> Result {
        let started = cx.clock.elapsed();
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}");
        let bar = ProgressBar::new(u64::from(self.rows()));
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let sown = self.sow(&cx, &bar).await;
        bar.finish_and_clear();
        sown?;
        let seconds = cx.clock.elapsed().saturating_sub(started).as_secs_f64();
        println!(
            "{} events, {} people, {} comments, {} follows, in {seconds:.1} s",
            self.events,
            self.people(),
            self.comments(),
            self.follows(),
        );
        Ok(())
    }
}

impl Seed {
    async fn sow(&self, cx: &Ctx, bar: &ProgressBar) -> Result {
        let password = match &self.password {
            Some(password) => cx.provided::<Hasher>()?.hash(password).await?,
            // Django's mark of a password that nothing matches.
            None => "!".to_owned(),
        };
        let around = match self.around {
            Some(day) => day,
            None => today(&cx.clock).parse()?,
        };
        let mut made = Made::new(self, around, password);
        let db = cx.db.primary();
        if users::find(&db, made.first_id()).await?.is_some() {
            let words = format!("seed {} is in already; choose another with --seed", self.seed);
            return Err(Error::refused(words));
        }
        self.sow_people(&db, &mut made, bar).await?;
        bar.set_message("events");
        for batch in batches(self.events) {
            let some: Vec<_> = batch.map(|number| made.event(number)).collect();
            let tx = db.begin().await?;
            bulk::events(&tx, &some).await?;
            tx.commit().await?;
            bar.inc(some.len() as u64);
        }
        bar.set_message("comments");
        for batch in batches(self.comments()) {
            let some: Vec<_> = batch.map(|number| made.comment(number)).collect();
            let tx = db.begin().await?;
            bar.inc(some.len() as u64);
            bulk::rows::<comments::ActiveModel, _>(&tx, some).await?;
            tx.commit().await?;
        }
        bar.set_message("follows");
        for batch in batches(self.follows()) {
            let some: Vec<_> = batch.filter_map(|number| made.follow(number)).collect();
            let tx = db.begin().await?;
            bar.inc(some.len() as u64);
            bulk::rows::<follows::ActiveModel, _>(&tx, some).await?;
            tx.commit().await?;
        }
        bar.set_message("counting");
        let counted = facets::count(&db, &today(&cx.clock)).await?;
        let tx = db.begin().await?;
        bulk::rows::<counters::ActiveModel, _>(&tx, made.counters()).await?;
        facets::replace(&tx, counted).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn sow_people(&self, db: &Db, made: &mut Made, bar: &ProgressBar) -> Result {
        bar.set_message("people");
        for batch in batches(self.people()) {
            let (people, organisers): (Vec<_>, Vec<_>) =
                batch.map(|number| made.person(number)).unzip();
            let tx = db.begin().await?;
            bar.inc(people.len() as u64);
            bulk::rows::<users::ActiveModel, _>(&tx, people).await?;
            let organisers = organisers.into_iter().flatten().collect();
            bulk::rows::<organisers::ActiveModel, _>(&tx, organisers).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    fn people(&self) -> u32 {
        self.people.unwrap_or_else(|| (self.events / 10).max(1))
    }

    fn comments(&self) -> u32 {
        if self.events == 0 { 0 } else { self.comments.unwrap_or(self.events.saturating_mul(2)) }
    }

    fn follows(&self) -> u32 {
        self.follows.unwrap_or_else(|| self.people().saturating_mul(10))
    }

    fn rows(&self) -> u32 {
        let rows = self.people().saturating_add(self.events);
        rows.saturating_add(self.comments()).saturating_add(self.follows())
    }
}

/// The numbers up to `count`, some thousand at a time.
fn batches(count: u32) -> impl Iterator<Item = std::ops::Range<u32>> {
    (0..count).step_by(ROWS_A_BATCH).map(move |from| {
        let to = from.saturating_add(u32::try_from(ROWS_A_BATCH).unwrap_or(u32::MAX));
        from..to.min(count)
    })
}

const ROWS_A_BATCH: usize = 2_000;
