//! One request on its way over one connection, until the head of its answer has come: a value that
//! is polled where it is, since most requests need no more than this.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use httparse::Header;

use super::{
    Cause, Failure, Lease, Server,
    connection::{Connection, Incoming, Trouble, Wanted},
    head::Head,
    message::Sending,
};
use crate::Config;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Attempt {
    connection: Connection,
    sending: Sending,
    wanted: Wanted,
    lease: Lease,
    limit: Limit,
    /// Whether the connection had been at rest: the server may have closed it just then.
    is_rested: bool,
    /// How often checks had taken the server out before.
    downs: u64,
}

/// How long may be waited for an answer, and until when that is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    time: Duration,
    pub(super) until: Duration,
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Settled {
    Answered(Incoming),
    /// The connection was closed before it had been used, which is nobody's failure: the place is
    /// still there, and a new connection may be tried.
    Anew(Lease, Sending),
    Failed(Failure, Sending),
}

impl Limit {
    /// For what begins `now`.
    pub(crate) fn new(config: &Config, now: Duration) -> Self {
        let time = Duration::from_millis(config.answer_timeout_ms);
        Self { time, until: now + time }
    }
}

impl Attempt {
    /// Over a connection that was [at rest](Server::rested).
    pub(crate) fn rested(
        connection: Connection,
        place: (Lease, Limit),
        what: (Sending, Wanted),
    ) -> Self {
        Self { is_rested: true, ..Self::new(connection, place, what) }
    }

    /// Over a connection that is new.
    pub(super) fn new(
        connection: Connection,
        (lease, limit): (Lease, Limit),
        (sending, wanted): (Sending, Wanted),
    ) -> Self {
        let downs = lease.server().counts.downs();
        Self { connection, sending, wanted, lease, limit, is_rested: false, downs }
    }

    /// Who is asked.
    pub(crate) fn server(&self) -> &Arc<Server> {
        self.lease.server()
    }

    /// How long it may take.
    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    /// Whether there were answers before the answer.
    pub(crate) fn has_interims(&self) -> bool {
        self.wanted.interims > 0
    }

    /// Ready when the head of the answer has come, which is told to `read`, or none will. A request
    /// that may be sent again gives up on a server whose checks begin to fail.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(Head, &[Header<'_>]),
    ) -> Poll<Result<Head, Trouble>> {
        let message = (&mut self.sending, &mut self.wanted);
        if let Poll::Ready(come) = self.connection.poll_exchange(cx, message, read) {
            return Poll::Ready(come);
        }
        let server = self.lease.server();
        let failed = |cause| Poll::Ready(Err(Trouble { cause, is_untouched: false }));
        loop {
            let time = (&server.clock, self.limit.time.min(TICK));
            ready!(self.connection.poll_tick(cx, time));
            if self.wanted.may_repeat && server.counts.downs() != self.downs {
                return failed(Cause::WentDown);
            }
            if server.clock.elapsed() >= self.limit.until {
                return failed(Cause::Late);
            }
        }
    }

    /// Polls it to its end.
    pub(super) async fn finish(mut self) -> Settled {
        let come = poll_fn(|cx| self.poll(cx, |_, _| {})).await;
        self.settle(come)
    }

    /// What follows from what [`poll`](Self::poll) has said.
    pub(crate) fn settle(self, come: Result<Head, Trouble>) -> Settled {
        let Self { connection, mut sending, wanted, lease, is_rested, .. } = self;
        let counts = &lease.server().counts;
        match come {
            Ok(head) => {
                counts.answered(head.status);
                Settled::Answered(Incoming::new(connection, head, (sending, lease)))
            }
            Err(Trouble { cause, is_untouched }) => {
                let is_unsent = !sending.has_begun() && !cause.is_visitors();
                let may_go_on = wanted.may_repeat || !sending.has_begun();
                if is_rested && is_untouched && may_go_on && sending.rewind() {
                    return Settled::Anew(lease, sending);
                }
                counts.failed(cause);
                Settled::Failed(Failure { cause, is_unsent }, sending)
            }
        }
    }
}

/// How often somebody who waits for an answer looks whether it still can come.
const TICK: Duration = Duration::from_millis(100);
