//! What must hold before a row is copied, and the tables for it.

use std::collections::{BTreeSet, HashSet};

use sea_orm::ConnectionTrait;

use super::{Copy, catalog, doing, rows::Pair, state};
use crate::{
    Db, Migration, Tx,
    error::{Error, Result},
    migrate::{self, COPYING, LEDGER},
};

impl Copy<'_> {
    /// The source's tables that are copied, once it is clear that they can be.
    pub(super) async fn check_source(&self, source: &Tx) -> Result<Vec<String>> {
        let reading = |source| doing("read the tables of the source", source);
        let all = catalog::names(source).await.map_err(reading)?;
        let refuse = |reason: String| Err(Error::Copy(reason));
        if !all.iter().any(|name| name == LEDGER) {
            return refuse(format!(
                "the source `{}` holds no site: it has no `{LEDGER}`",
                self.from
            ));
        }
        let done: HashSet<String> =
            migrate::names(source).await.map_err(reading)?.into_iter().collect();
        let known: Vec<&str> = self.migrations.concat().iter().map(Migration::name).collect();
        if done.contains(COPYING) {
            return refuse("the source is itself a copy that was not finished".to_owned());
        }
        if let Some(name) = known.iter().find(|name| !done.contains(**name)) {
            return refuse(format!(
                "the source lacks the migration `{name}`; run `migrate` on it first"
            ));
        }
        if let Some(name) = done.iter().find(|name| !known.contains(&name.as_str())) {
            return refuse(format!(
                "the source has the migration `{name}`, which this program does not know; copy with \
                 the site's own program, in its newest version"
            ));
        }
        let orphans = catalog::orphans(source).await.map_err(reading)?;
        if !orphans.is_empty() {
            let orphans = orphans.join(", ");
            return refuse(format!(
                "the source has rows without the rows they refer to: {orphans}"
            ));
        }
        let ours = [LEDGER, state::COPY];
        let is_copied = |name: &String| !ours.contains(&name.as_str()) && !self.skip.contains(name);
        Ok(all.into_iter().filter(is_copied).collect())
    }

    /// Makes the tables of a new target; lets a copy of the same source go on.
    pub(super) async fn prepare_target(&self, from: &Db, names: &[String], to: &Db) -> Result<()> {
        let writing = |source| doing("prepare the target", source);
        let there: BTreeSet<String> =
            catalog::names(to).await.map_err(writing)?.into_iter().collect();
        let is_begun = there.contains(LEDGER)
            && migrate::names(to).await.map_err(writing)?.iter().any(|name| name == COPYING);
        if !is_begun {
            // One that was made and not yet marked when a copy was killed is no site.
            let is_site =
                there.contains(LEDGER) && !migrate::names(to).await.map_err(writing)?.is_empty();
            let in_the_way: Vec<&str> = there
                .iter()
                .filter(|name| (*name == LEDGER && is_site) || names.contains(name))
                .map(String::as_str)
                .collect();
            if !in_the_way.is_empty() {
                return Err(Error::Copy(format!(
                    "the target `{}` is not new: it has the tables {}. Nothing is overwritten; make \
                     a new, empty database and copy into that",
                    self.to,
                    in_the_way.join(", ")
                )));
            }
            migrate::mark_copying(to).await.map_err(writing)?;
        }
        state::make(to).await.map_err(writing)?;
        let source = from.to_string();
        match state::read(to, state::SOURCE).await.map_err(writing)? {
            None => state::write(to, state::SOURCE, &source).await.map_err(writing)?,
            Some(other) if other != source => {
                return Err(Error::Copy(format!(
                    "the target holds an unfinished copy of another source, `{other}`; make a new, \
                     empty database and copy into that"
                )));
            }
            Some(_) => {}
        }
        to.migrate_copy(self.migrations).await?;
        for (at, (drop_it, make_it)) in
            catalog::foreign_keys(to).await.map_err(writing)?.into_iter().enumerate()
        {
            // Rows come in no order that the keys would allow; they are checked when they are back.
            let tx = to.begin().await.map_err(writing)?;
            let name = format!("{}{at:06}", state::FOREIGN_KEY);
            state::write(&tx, &name, &make_it).await.map_err(writing)?;
            tx.execute_unprepared(&drop_it).await.map_err(writing)?;
            tx.commit().await.map_err(writing)?;
        }
        Ok(())
    }

    /// Each table with its twin.
    pub(super) async fn pair(&self, source: &Tx, names: &[String], to: &Db) -> Result<Vec<Pair>> {
        let reading = |source| doing("read the tables of the two databases", source);
        let there: HashSet<String> =
            catalog::names(to).await.map_err(reading)?.into_iter().collect();
        let mut pairs = Vec::new();
        for name in names {
            if !there.contains(name) {
                return Err(Error::Copy(format!(
                    "the source has a table `{name}` that this program's migrations do not make; \
                     leave it out with `--skip {name}`, or copy with the program it belongs to"
                )));
            }
            let from_table = catalog::table(source, name).await.map_err(reading)?;
            let to_table = catalog::table(to, name).await.map_err(reading)?;
            let from = (source.get_database_backend(), &from_table);
            let pair = Pair::of(from, (to.get_database_backend(), &to_table));
            pairs.push(pair.map_err(Error::Copy)?);
        }
        Ok(pairs)
    }
}
