//! The savepoints within a transaction: which are open, and which must be undone.

use sea_orm::DbErr;

use crate::error::refused;

/// Which of the transactions within each other one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// 1 for the transaction itself, 2 and up for savepoints.
    pub(crate) level: u32,
    /// No other savepoint of the transaction has this number, whatever its level.
    number: u64,
}

/// The savepoints of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Nest {
    /// Numbers of those that are open, the innermost last.
    open: Vec<u64>,
    /// Numbers that were given.
    given: u64,
    /// Level to undo before the next statement.
    undo: Option<u32>,
}

impl At {
    /// The transaction itself.
    pub(crate) const TOP: Self = Self { level: 1, number: 0 };
}

impl Nest {
    /// Innermost level that is open.
    pub(crate) fn depth(&self) -> u32 {
        u32::try_from(self.open.len() + 1).unwrap_or(u32::MAX)
    }

    /// Whether it is open. A savepoint that is over may share its level with a later one.
    pub(crate) fn has(&self, at: At) -> bool {
        at.level == 1 || self.open.get(at.level as usize - 2) == Some(&at.number)
    }

    /// What is written around a savepoint that is open would be part of that.
    pub(crate) fn check_innermost(&self, at: At) -> Result<(), DbErr> {
        if self.depth() > at.level {
            return Err(refused("a savepoint within this transaction is open; end it first"));
        }
        Ok(())
    }

    pub(crate) fn open(&mut self) -> At {
        self.given += 1;
        self.open.push(self.given);
        At { level: self.depth(), number: self.given }
    }

    /// Notes that a savepoint, with all that are within it, must be undone before the next statement.
    pub(crate) fn will_undo(&mut self, at: At) {
        if self.has(at) {
            self.undo = Some(self.undo.map_or(at.level, |level| level.min(at.level)));
        }
    }

    pub(crate) fn undo(&self) -> Option<u32> {
        self.undo
    }

    /// The savepoint of this level is over, with all that are within it.
    pub(crate) fn end(&mut self, level: u32) {
        self.open.truncate(level.saturating_sub(2) as usize);
        self.undo = self.undo.filter(|undo| *undo < level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_over_undoes_nothing_of_who_came_in_its_place() {
        let mut nest = Nest::default();
        let (outer, inner) = (nest.open(), nest.open());
        assert_eq!((outer.level, inner.level, nest.depth()), (2, 3, 3));
        nest.end(2);
        assert!(nest.has(At::TOP) && !nest.has(outer) && !nest.has(inner));
        let later = nest.open();
        assert_eq!(later.level, outer.level);
        nest.will_undo(outer);
        nest.will_undo(inner);
        assert_eq!(nest.undo(), None);
        nest.will_undo(later);
        assert_eq!(nest.undo(), Some(2));
        nest.end(2);
        assert_eq!((nest.undo(), nest.depth()), (None, 1));
    }

    #[test]
    fn the_outermost_that_was_dropped_is_undone_whatever_the_order() {
        let mut nest = Nest::default();
        let (outer, inner) = (nest.open(), nest.open());
        nest.will_undo(outer);
        nest.will_undo(inner);
        assert_eq!(nest.undo(), Some(2));
        nest.end(3);
        assert_eq!(nest.undo(), Some(2));
    }
}
