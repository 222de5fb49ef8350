//! The taps of one connection, and how much they may bring.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};

use lapin::{Channel, Consumer, Error, options::BasicQosOptions};

use super::receipt::Open;

/// The taps of one connection, on a channel of their own.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) channel: Channel,
    pub(super) open: Arc<Open>,
    pub(super) taps: HashMap<String, Tap>,
    /// What the taps may bring at most.
    pub(super) prefetch: u16,
}

#[derive(Debug)]
pub(super) struct Tap {
    /// It is cancelled when this goes.
    pub(super) consumer: Consumer,
    pub(super) is_open: Arc<AtomicBool>,
}

impl Intake {
    /// Bounds what all taps together may bring; true when it is more than before.
    pub(super) async fn bound(&mut self, wanted: usize) -> Result<bool, Error> {
        let wanted = u16::try_from(wanted.max(1)).unwrap_or(u16::MAX);
        let was = self.prefetch;
        if was >= wanted && was / 2 <= wanted {
            return Ok(false);
        }
        self.channel.basic_qos(wanted, BasicQosOptions { global: true }).await?;
        self.prefetch = wanted;
        Ok(wanted > was)
    }
}
