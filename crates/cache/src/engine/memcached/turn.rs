//! Who has a server's connection: nobody, one caller, or the line's task.
//!
//! A caller who finds it idle asks over it directly, which wakes nobody. All who come meanwhile wait
//! in the line, whose task is given the connection next and asks for them all in one go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::socket::{Answer, Exchange, Expects, Fault, Socket};

/// A server's connection, and who has it.
#[derive(Debug, Default)]
pub(super) struct Seat {
    state: Mutex<State>,
    /// Calls the line's task.
    called: Notify,
}

#[derive(Debug, Default)]
struct State {
    place: Place,
    /// Counts who has had the connection, so that one from whom it was taken is known.
    number: u64,
    /// The task waits for it.
    is_wanted: bool,
}

#[derive(Debug)]
enum Place {
    /// Nobody uses it, or there is none yet.
    Idle(Option<Socket>),
    /// A caller or the task has it.
    Taken,
    /// It is the task's, which has not come for it yet.
    Left(Left),
}

/// How a caller left the connection.
#[derive(Debug)]
pub(super) enum Left {
    /// Well, or there is none.
    Well(Option<Socket>),
    /// In the middle of an exchange: somebody has to wait for the answer, or the next to ask would
    /// be given it.
    Owing(Socket, Exchange),
    /// The server has failed and was ejected.
    Failed,
}

/// The connection in the hands of one caller. Dropped halfway, it is left to the line's task.
#[derive(Debug)]
pub(super) struct Turn {
    seat: Arc<Seat>,
    number: u64,
    /// Both until the turn has ended.
    held: Option<(Socket, Exchange)>,
    pub(super) is_repeatable: bool,
}

impl Seat {
    /// Takes the connection, if it is idle, and sends `commands`; gives them back otherwise.
    pub(super) fn take(
        self: &Arc<Self>,
        commands: bytes::Bytes,
        expects: Expects,
        is_repeatable: bool,
    ) -> Result<Turn, bytes::Bytes> {
        let mut state = self.state();
        let Place::Idle(socket @ Some(_)) = &mut state.place else { return Err(commands) };
        // What may not be done twice is not sent to where nobody may be listening any more.
        socket.take_if(|socket| !is_repeatable && socket.is_closed());
        let Some(socket) = socket.take() else { return Err(commands) };
        state.place = Place::Taken;
        state.number += 1;
        let number = state.number;
        drop(state);
        let mut exchange = Exchange::new(commands, expects);
        // Where it fails, so does the rest, and says why.
        let _ = socket.begin(&mut exchange);
        let held = Some((socket, exchange));
        Ok(Turn { seat: Arc::clone(self), number, held, is_repeatable })
    }

    /// Waits until a caller has left something to the task.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }

    /// Takes the connection for the task; `None` while a caller has it, who then calls the task.
    pub(super) fn claim(&self) -> Option<Left> {
        let mut state = self.state();
        match std::mem::replace(&mut state.place, Place::Taken) {
            Place::Idle(socket) => Some(Left::Well(socket)),
            Place::Left(left) => Some(left),
            Place::Taken => {
                state.is_wanted = true;
                None
            }
        }
    }

    /// Takes the connection's place from a caller who does nothing with it, unless he has left by
    /// now. What he has is his to use up.
    pub(super) fn seize(&self) -> Left {
        let mut state = self.state();
        state.is_wanted = false;
        match std::mem::replace(&mut state.place, Place::Taken) {
            Place::Idle(socket) => Left::Well(socket),
            Place::Left(left) => left,
            Place::Taken => {
                state.number += 1;
                Left::Well(None)
            }
        }
    }

    /// The task is done with it.
    pub(super) fn release(&self, socket: Option<Socket>) {
        self.state().place = Place::Idle(socket);
    }

    fn leave(&self, number: u64, left: Left) {
        let mut state = self.state();
        if state.number != number {
            return;
        }
        state.place = match left {
            Left::Well(socket) if !state.is_wanted => Place::Idle(socket),
            left => {
                self.called.notify_one();
                Place::Left(left)
            }
        };
        state.is_wanted = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Waits for the answer. Cancel safe: it can be called again, or the turn be dropped.
    pub(super) async fn answer(&mut self) -> Result<Answer, Fault> {
        match &mut self.held {
            Some((socket, exchange)) => socket.finish(exchange).await,
            None => Err(Fault::Ejected),
        }
    }

    /// Ends the turn: the answer was there.
    pub(super) fn end(mut self) {
        let socket = self.held.take().map(|(socket, _)| socket);
        self.seat.leave(self.number, Left::Well(socket));
    }

    /// Ends the turn and the connection, which had been closed; gives back what was to be asked.
    pub(super) fn close(mut self) -> Option<Exchange> {
        self.seat.leave(self.number, Left::Well(None));
        self.held.take().map(|(_, exchange)| exchange)
    }

    /// Ends the turn and the connection: the server has failed, and `eject` takes it off the ring.
    /// The task brings it back. One whose connection was taken from it has no say in that.
    pub(super) fn fail(mut self, eject: impl FnOnce()) {
        self.held = None;
        let mut state = self.seat.state();
        if state.number == self.number {
            eject();
            state.is_wanted = false;
            state.place = Place::Left(Left::Failed);
            self.seat.called.notify_one();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((socket, exchange)) = self.held.take() {
            self.seat.leave(self.number, Left::Owing(socket, exchange));
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::Idle(None)
    }
}
