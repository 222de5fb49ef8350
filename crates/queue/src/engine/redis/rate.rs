//! Limits that all workers share: a hash each, and one script for all turns of a call.

use ::redis::RedisError;

use super::Redis;
use crate::{
    engine::{Limit, Turn},
    rate,
};

impl Redis {
    pub(super) async fn take_turns(&self, wanted: &[Vec<Limit>]) -> Result<Vec<Turn>, RedisError> {
        let mut turns = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(CHUNK) {
            let mut call = self.call(&self.scripts.turns, 3 + wanted.len() * 7, wanted.len() * 128);
            call.arg(rate::HOLD).arg(rate::AHEAD).arg(rate::HORIZON);
            for limits in wanted {
                call.arg(limits.len());
                for Limit { name, rate } in limits {
                    call.arg(name).arg(rate.interval()).arg(rate.slack());
                }
            }
            let told: Vec<(i64, i64)> = self.invoke(&self.scripts.turns, &call).await?;
            // Not before the turn.
            let to_ms = |us: i64| us.saturating_add(999).div_euclid(1000);
            turns.extend(told.into_iter().map(|(is_taken, at)| match is_taken {
                1 => Turn::At(to_ms(at)),
                _ => Turn::Later(to_ms(at)),
            }));
        }
        Ok(turns)
    }
}

const CHUNK: usize = 500;
