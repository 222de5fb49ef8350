//! Sends each statement to a server that may run it, and to another one when that server fails.

use sea_orm::{DbErr, ExecResult, QueryResult, Statement};

use crate::{
    Db, Reader, Tx,
    classify::{Reason, Verdict},
    cluster::Servers,
    db::Lane,
    engine::Begin,
    error::{self, refused},
    fleet::{Fleet, Tried, Why},
    lease::Lease,
    session::Writing,
    stream::{Leased, Rows},
};

/// What is wanted of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Outcome,
    First,
    All,
}

/// What a statement gave.
pub(crate) enum Answer {
    Outcome(ExecResult),
    First(Option<QueryResult>),
    All(Vec<QueryResult>),
}

impl Db {
    /// Runs a statement by itself.
    pub(crate) async fn send(&self, ask: Ask, statement: Statement) -> Result<Answer, DbErr> {
        let verdict = self.verdict(&statement.sql)?;
        match &self.cluster.servers {
            Servers::File { .. } => {
                let mut lease = self.lease_of_file(verdict).await?;
                let is_several = is_several(&statement.sql);
                let done = lease.answer(ask, statement, verdict == Verdict::Read).await;
                lease.conn().is_busy |= is_several;
                done
            }
            Servers::Fleet(fleet) => match verdict {
                Verdict::Read if self.lane != Lane::Primary => {
                    self.send_read(fleet, ask, statement).await
                }
                Verdict::Read => self.send_to_primary(fleet, ask, statement).await,
                Verdict::Primary(_) => self.send_write(fleet, ask, statement).await,
            },
        }
    }

    /// Runs SQL without preparing it; it may be several statements.
    pub(crate) async fn send_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let verdict = self.verdict(sql)?;
        let fleet = match &self.cluster.servers {
            Servers::File { .. } => {
                let mut lease = self.lease_of_file(verdict).await?;
                let done = lease.execute_unprepared(sql).await;
                lease.conn().is_busy |= is_several(sql);
                return done;
            }
            Servers::Fleet(fleet) => fleet,
        };
        let (mut lease, at) = fleet.lease_writer().await?;
        if self.cluster.classifier.changes_connection(sql, verdict) {
            lease.will_change()?;
        }
        self.session.wrote();
        let done = lease.execute_unprepared(sql).await;
        self.written(fleet, at, done.as_ref().err());
        // Only the first of several statements was looked at, and a later one may be a SET.
        lease.conn().is_spent |= is_several(sql);
        done
    }

    pub(crate) async fn send_stream<'a>(&self, statement: Statement) -> Result<Rows<'a>, DbErr> {
        let verdict = self.verdict(&statement.sql)?;
        let fleet = match &self.cluster.servers {
            Servers::File { .. } => {
                return Ok(Rows::of_pool(self.lease_of_file(verdict).await?, statement, None));
            }
            Servers::Fleet(fleet) => fleet,
        };
        if verdict == Verdict::Read && self.lane != Lane::Primary {
            let mut tried = Tried::default();
            let (lease, at, _) = self.lease_read(&mut tried).await?;
            let leased = Leased { lease, at, tried, tries: 0, writing: None };
            return Ok(Rows::of_fleet(self.clone(), leased, statement));
        }
        let (mut lease, at) = fleet.lease_writer().await?;
        if self.cluster.classifier.changes_connection(&statement.sql, verdict) {
            lease.will_change()?;
        }
        self.went_to(fleet, at, None, Why::Writes);
        Ok(Rows::of_pool(lease, statement, Some(self.session.writing())))
    }

    /// Another server for a stream that the server `at` failed with `error`; none when that would not
    /// help.
    pub(crate) async fn lease_after(
        &self,
        error: &DbErr,
        at: usize,
        mut tried: Tried,
        mut tries: u32,
    ) -> Option<Result<Leased, DbErr>> {
        let Servers::Fleet(fleet) = &self.cluster.servers else { return None };
        fleet.suspect(at, error);
        tries += 1;
        let leased =
            match self.remedy(fleet, at, error, tries) {
                Remedy::None => return None,
                Remedy::Elsewhere => self
                    .lease_read(&mut tried)
                    .await
                    .map(|(lease, at, _)| Leased { lease, at, tried, tries, writing: None }),
                Remedy::Primary => fleet.lease_primary().await.map(|(at, lease)| {
                    self.went_to(fleet, at, None, Why::Asked);
                    Leased { lease, at, tried, tries, writing: None }
                }),
                Remedy::Writer => fleet.lease_writer().await.map(|(lease, at)| {
                    self.went_to(fleet, at, None, Why::Writes);
                    Leased { lease, at, tried, tries, writing: Some(self.session.writing()) }
                }),
            };
        Some(leased)
    }

    pub(crate) async fn start(&self, mode: Begin) -> Result<Tx, DbErr> {
        if !mode.reads_only && matches!(self.lane, Lane::Read | Lane::Report) {
            return Err(refused("this handle only reads; it cannot begin"));
        }
        let lease = match &self.cluster.servers {
            Servers::File { writer, readers } => {
                let is_read = mode.reads_only && self.lane != Lane::Primary;
                if is_read { Lease::of(readers).await? } else { Lease::of(writer).await? }
            }
            Servers::Fleet(_) if mode.reads_only && self.lane != Lane::Primary => {
                self.lease_read(&mut Tried::default()).await?.0
            }
            Servers::Fleet(fleet) => return self.start_on_primary(fleet, mode).await,
        };
        Tx::start(self.clone(), lease, mode).await
    }

    /// BEGIN changes nothing, so it can be said again to another server or connection.
    async fn start_on_primary(&self, fleet: &Fleet, mode: Begin) -> Result<Tx, DbErr> {
        let mut tries = 0;
        loop {
            let (lease, at) = fleet.lease_writer().await?;
            self.went_to(fleet, at, None, Why::Writes);
            match Tx::start(self.clone(), lease, mode).await {
                Err(error) if error::is_lost(&error) && tries < 2 => tries += 1,
                done => return done,
            }
        }
    }

    /// A connection on which anything may be written for as long as it is held.
    pub(crate) async fn lease_primary(&self) -> Result<(Lease, Option<Writing>), DbErr> {
        match &self.cluster.servers {
            Servers::File { writer, .. } => Ok((Lease::of(writer).await?, None)),
            Servers::Fleet(fleet) => {
                let (lease, at) = fleet.lease_writer().await?;
                self.went_to(fleet, at, None, Why::Writes);
                Ok((lease, Some(self.session.writing())))
            }
        }
    }

    /// A connection for reading, and the server behind it.
    async fn lease_read(&self, tried: &mut Tried) -> Result<(Lease, usize, Why), DbErr> {
        let fleet = match &self.cluster.servers {
            Servers::File { readers, .. } => return Ok((Lease::of(readers).await?, 0, Why::Asked)),
            Servers::Fleet(fleet) => fleet,
        };
        if self.lane == Lane::Report {
            let placed = fleet.lease_report(tried).await?;
            fleet.nodes()[placed.node].count(placed.why);
            return Ok((placed.lease, placed.node, placed.why));
        }
        let placed = fleet.lease_reader(&self.session, tried).await?;
        // Before it is read, so that a stream or a transaction that is dropped counts as well.
        let is_standby = fleet.nodes()[placed.node].is_standby();
        let run = is_standby.then(|| placed.lease.identity().run);
        self.went_to(fleet, placed.node, run, placed.why);
        Ok((placed.lease, placed.node, placed.why))
    }

    async fn send_read(
        &self,
        fleet: &Fleet,
        ask: Ask,
        statement: Statement,
    ) -> Result<Answer, DbErr> {
        let mut tried = Tried::default();
        for tries in 1.. {
            let (mut lease, at, why) = self.lease_read(&mut tried).await?;
            tracing::trace!(db.node = fleet.nodes()[at].name(), db.why = %why, "{}", statement.sql);
            let error = match lease.answer(ask, statement.clone(), true).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            drop(lease);
            fleet.suspect(at, &error);
            match self.remedy(fleet, at, &error, tries) {
                Remedy::None => return Err(error),
                Remedy::Elsewhere => {}
                Remedy::Primary => break,
                Remedy::Writer => return self.send_write(fleet, ask, statement).await,
            }
        }
        self.send_to_primary(fleet, ask, statement).await
    }

    /// What helps a read that the server `at` failed with `error` the `tries`th time.
    fn remedy(&self, fleet: &Fleet, at: usize, error: &DbErr, tries: u32) -> Remedy {
        let is_primary = fleet.primary().is_some_and(|(primary, _)| primary == at);
        match (Remedy::of(error), self.lane) {
            // Reports stay where they are, and who only reads does not write by accident.
            (Remedy::Primary | Remedy::Writer, Lane::Report) => Remedy::None,
            (Remedy::Writer, Lane::Read) => Remedy::None,
            // The primary has the last word.
            (Remedy::Primary | Remedy::Writer, _) if is_primary => Remedy::None,
            (Remedy::Elsewhere, Lane::Report) if tries >= MAX_TRIES => Remedy::None,
            (Remedy::Elsewhere, _) if tries > MAX_TRIES => Remedy::None,
            (Remedy::Elsewhere, _) if tries == MAX_TRIES => Remedy::Primary,
            (remedy, _) => remedy,
        }
    }

    async fn send_to_primary(
        &self,
        fleet: &Fleet,
        ask: Ask,
        statement: Statement,
    ) -> Result<Answer, DbErr> {
        let (at, mut lease) = fleet.lease_primary().await?;
        self.went_to(fleet, at, None, Why::Asked);
        let done = lease.answer(ask, statement, true).await;
        if let Err(error) = &done {
            fleet.suspect(at, error);
        }
        done
    }

    async fn send_write(
        &self,
        fleet: &Fleet,
        ask: Ask,
        statement: Statement,
    ) -> Result<Answer, DbErr> {
        let (mut lease, at) = fleet.lease_writer().await?;
        let verdict = self.cluster.classifier.classify(&statement.sql);
        if self.cluster.classifier.changes_connection(&statement.sql, verdict) {
            lease.will_change()?;
        }
        tracing::trace!(db.node = fleet.nodes()[at].name(), db.why = "writes", "{}", statement.sql);
        // Before as well as after: a future that is dropped in between may have written.
        self.session.wrote();
        let done = lease.answer(ask, statement, false).await;
        self.written(fleet, at, done.as_ref().err());
        done
    }

    /// Notes where something was sent: for the visitor's next reads, and for whoever asks.
    fn went_to(&self, fleet: &Fleet, at: usize, run: Option<u64>, why: Why) {
        self.session.went_to(at, run, why);
        fleet.nodes()[at].count(why);
    }

    fn written(&self, fleet: &Fleet, at: usize, error: Option<&DbErr>) {
        self.session.wrote();
        self.went_to(fleet, at, None, Why::Writes);
        if let Some(error) = error {
            fleet.suspect(at, error);
            if error::driver_error(error).is_some_and(error::is_read_only) {
                fleet.demote(at);
            }
        }
    }

    fn verdict(&self, sql: &str) -> Result<Verdict, DbErr> {
        let verdict = self.cluster.classifier.classify(sql);
        match (self.lane, verdict) {
            (_, Verdict::Primary(Reason::Transaction)) => {
                Err(refused("open a transaction with `begin`, not with a statement"))
            }
            (Lane::Read | Lane::Report, Verdict::Primary(reason)) => {
                Err(refused(format!("this handle only reads, and the statement {reason}")))
            }
            _ => Ok(verdict),
        }
    }

    async fn lease_of_file(&self, verdict: Verdict) -> Result<Lease, DbErr> {
        let Servers::File { writer, readers } = &self.cluster.servers else {
            return Err(refused("the database is not a file"));
        };
        if verdict == Verdict::Read && self.lane != Lane::Primary {
            Lease::of(readers).await
        } else {
            Lease::of(writer).await
        }
    }
}

/// What helps a read that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Nothing: it would fail everywhere.
    None,
    /// Any other server.
    Elsewhere,
    /// The primary, because the replica may not have what a migration has just made.
    Primary,
    /// The primary, because it does more than it seems: a standby refused it, and has done nothing.
    Writer,
}

impl Remedy {
    fn of(error: &DbErr) -> Self {
        if error::is_lost(error) || error::is_conflict_with_recovery(error) {
            Self::Elsewhere
        } else if error::driver_error(error).is_some_and(error::is_read_only) {
            Self::Writer
        } else if error::is_unknown_name(error) {
            Self::Primary
        } else {
            Self::None
        }
    }
}

impl Reader {
    pub(crate) async fn lease(&self) -> Result<Lease, DbErr> {
        Ok(self.db.lease_read(&mut Tried::default()).await?.0)
    }
}

impl Lease {
    /// Runs one statement. Behind a pooler it runs in a transaction, because without one each of the
    /// driver's messages may reach another server.
    async fn answer(
        &mut self,
        ask: Ask,
        statement: Statement,
        reads_only: bool,
    ) -> Result<Answer, DbErr> {
        if !self.is_pooled() {
            return self.answer_plain(ask, statement, reads_only).await;
        }
        self.begin(Begin::default()).await?;
        match self.answer_plain(ask, statement, reads_only).await {
            Ok(answer) => {
                self.commit().await?;
                Ok(answer)
            }
            Err(error) => {
                // Where rolling back fails, the drop of the lease looks after the connection.
                let _ = self.rollback().await;
                Err(error)
            }
        }
    }

    async fn answer_plain(
        &mut self,
        ask: Ask,
        statement: Statement,
        reads_only: bool,
    ) -> Result<Answer, DbErr> {
        match ask {
            Ask::Outcome => self.execute(statement).await.map(Answer::Outcome),
            Ask::First => self.fetch_one(statement, reads_only).await.map(Answer::First),
            Ask::All => self.fetch_all(statement).await.map(Answer::All),
        }
    }
}

/// Whether this may be several statements. Only the first is looked at, and another may begin a
/// transaction and not come to its end: then whoever wrote next would write into it.
fn is_several(sql: &str) -> bool {
    sql.trim_end().trim_end_matches(';').contains(';')
}

/// Servers that one read is sent to before the primary has the last word.
const MAX_TRIES: u32 = 4;
