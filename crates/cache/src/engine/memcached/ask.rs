//! Asking the servers of a fleet: directly over a connection that nobody uses, in line otherwise, and
//! the next owner of a key when one fails.

use std::{pin::pin, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    fleet::{Fleet, Route},
    line::Request,
    patience::Patience,
    socket::{Answer, Expects, Fault},
    turn::Turn,
};
use crate::Result;

/// A command for the server of a route.
pub(super) struct Command {
    pub(super) bytes: Bytes,
    pub(super) expects: Expects,
}

impl Fleet {
    /// Asks the owner of `key`; when it fails, the server that owns the key after that, and so on.
    pub(super) async fn ask(
        &self,
        key: &[u8],
        is_repeatable: bool,
        command: impl Fn(Route) -> Command,
    ) -> Result<Answer> {
        let mut last = None;
        for _attempt in 0..=self.lines.len() {
            let Some(route) = self.route(key) else { break };
            let asked = match self.learn_dialect(route).await {
                Ok(route) => {
                    let Command { bytes, expects } = command(route);
                    let is_claim = !is_repeatable && bytes.starts_with(CLAIM);
                    let asked = self.send(route.server, bytes, expects, is_repeatable).await;
                    if is_claim && asked.is_err() {
                        self.lose(route.server, key);
                    }
                    asked
                }
                Err(fault) => Err(fault),
            };
            match asked {
                Ok(answer) => return Ok(answer),
                Err(fault) => last = Some(fault),
            }
        }
        Err(self.nobody(last))
    }

    /// Asks for many keys, one write to each server, and again for those whose server failed.
    pub(super) async fn get(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<(u32, Bytes)>>> {
        let mut found = vec![None; keys.len()];
        let mut left: Vec<usize> = (0..keys.len()).collect();
        let mut last = None;
        for _attempt in 0..=self.lines.len() {
            let mut questions = Question::for_each_of(self.lines.len(), &left, keys);
            let ring = self.ring();
            let owners = ring.owners(left.iter().map(|at| keys[*at].as_ref()));
            for (at, owner) in left.drain(..).zip(owners) {
                match owner {
                    Some(server) => questions[server].ask(at, keys[at].as_ref()),
                    // With a ring that moves nothing, a dead server's keys are missing.
                    None if !self.is_all_ejected() => {}
                    None => return Err(self.nobody(last)),
                }
            }
            // All are written before any is waited for.
            let mut waiting = Vec::with_capacity(questions.len());
            for (server, Question { asked, mut commands }) in questions.into_iter().enumerate() {
                if !asked.is_empty() {
                    commands.extend_from_slice(END_OF_LINE);
                    let commands = commands.freeze();
                    waiting.push((asked, self.begin(server, commands, Expects::Hits, true).await));
                }
            }
            if waiting.is_empty() {
                return Ok(found);
            }
            for (asked, answered) in self.answers(waiting).await {
                match answered {
                    Ok(Answer::Hits(hits)) => {
                        // They come in the order of the question, without those that are missing.
                        let mut asked = asked.into_iter();
                        for hit in hits.iter() {
                            if let Some(at) = asked.find(|at| keys[*at].as_ref() == hit.key()) {
                                found[at] = Some((hit.client_flags(), hit.value()));
                            }
                        }
                    }
                    Ok(Answer::Reply(_)) => {}
                    Err(fault) => {
                        last = Some(fault);
                        left.extend(asked);
                    }
                }
            }
        }
        Err(self.nobody(last))
    }

    /// Waits for what was asked of several servers.
    async fn answers(&self, waiting: Vec<Asked<Sent>>) -> Vec<Asked<Result<Answer, Fault>>> {
        let (mut answers, mut late) = (Vec::with_capacity(waiting.len()), Vec::new());
        let sleep = pin!(self.clock().sleep(SOON.min(self.timeout())));
        let mut patience = Patience::new(sleep);
        for (asked, sent) in waiting {
            let Sent::Directly(server, mut turn) = sent else {
                late.push((asked, sent));
                continue;
            };
            match patience.wait(turn.answer()).await {
                Some(answered) => {
                    answers.push((asked, self.conclude(server, turn, answered).await));
                }
                None => late.push((asked, Sent::Directly(server, turn))),
            }
        }
        // What others wait for must not wait for a server that is slow.
        let late = late.into_iter().map(async |(asked, sent)| {
            let sleep = pin!(self.clock().sleep(self.timeout()));
            (asked, self.finish(sent, &mut Patience::new(sleep)).await)
        });
        answers.extend(join_all(late).await);
        answers
    }

    pub(super) async fn send(
        &self,
        server: usize,
        commands: Bytes,
        expects: Expects,
        is_repeatable: bool,
    ) -> Result<Answer, Fault> {
        let sent = self.begin(server, commands, expects, is_repeatable).await;
        let sleep = pin!(self.clock().sleep(self.timeout()));
        self.finish(sent, &mut Patience::new(sleep)).await
    }

    /// Sends over the server's connection where nobody uses it, and has the line send otherwise.
    async fn begin(
        &self,
        server: usize,
        commands: Bytes,
        expects: Expects,
        is_repeatable: bool,
    ) -> Sent {
        match self.lines[server].seat.take(commands, expects, is_repeatable) {
            Ok(turn) => Sent::Directly(server, turn),
            Err(commands) => self.line_up(server, commands, expects, is_repeatable).await,
        }
    }

    async fn line_up(
        &self,
        server: usize,
        commands: Bytes,
        expects: Expects,
        is_repeatable: bool,
    ) -> Sent {
        let (answer, answered) = oneshot::channel();
        let request = Request { commands, expects, is_repeatable, answer };
        // Waits where the line has as much as it can hold: the line itself is under a timeout.
        match self.lines[server].requests.send(request).await {
            Ok(()) => Sent::InLine(answered),
            Err(_) => Sent::Nowhere,
        }
    }

    /// Waits for the answer.
    async fn finish(
        &self,
        sent: Sent,
        patience: &mut Patience<'_, impl Future<Output = ()>>,
    ) -> Result<Answer, Fault> {
        match sent {
            Sent::Directly(server, mut turn) => {
                let answered = patience.wait(turn.answer()).await;
                let answered = answered.unwrap_or(Err(Fault::Timeout(self.timeout())));
                self.conclude(server, turn, answered).await
            }
            Sent::InLine(answered) => answered.await.unwrap_or(Err(Fault::Ejected)),
            Sent::Nowhere => Err(Fault::Ejected),
        }
    }

    /// Ends a turn as its answer wants. A server that gave none leaves the ring.
    async fn conclude(
        &self,
        server: usize,
        turn: Turn,
        answered: Result<Answer, Fault>,
    ) -> Result<Answer, Fault> {
        let fault = match answered {
            Ok(answer) => {
                turn.end();
                return Ok(answer);
            }
            // It was closed while nobody used it: the line makes another.
            Err(Fault::Io(_)) if turn.is_repeatable => {
                let Some(exchange) = turn.close() else { return Err(Fault::Ejected) };
                let sent = self.line_up(server, exchange.commands, exchange.expects, true).await;
                let Sent::InLine(answered) = sent else { return Err(Fault::Ejected) };
                return answered.await.unwrap_or(Err(Fault::Ejected));
            }
            Err(fault) => fault,
        };
        turn.fail(|| self.eject(server, &fault));
        Err(fault)
    }
}

/// Which of the keys were asked for, and what became of that.
type Asked<T> = (Vec<usize>, T);

/// A request on its way.
enum Sent {
    Directly(usize, Turn),
    InLine(oneshot::Receiver<Result<Answer, Fault>>),
    /// The line has ended.
    Nowhere,
}

/// What is asked of one server.
struct Question {
    /// Which of the keys.
    asked: Vec<usize>,
    commands: BytesMut,
}

impl Question {
    /// One for each server, with room for what it will about be asked.
    fn for_each_of(servers: usize, left: &[usize], keys: &[impl AsRef<[u8]>]) -> Vec<Self> {
        let bytes: usize = left.iter().map(|at| 1 + keys[*at].as_ref().len()).sum();
        let part = |whole: usize| if servers == 1 { whole } else { whole * 3 / 2 / servers };
        let question = || Self {
            asked: Vec::with_capacity(part(left.len())),
            commands: BytesMut::with_capacity(part(bytes) + GET.len() + END_OF_LINE.len()),
        };
        std::iter::repeat_with(question).take(servers).collect()
    }

    fn ask(&mut self, at: usize, key: &[u8]) {
        if self.asked.is_empty() {
            self.commands.extend_from_slice(GET);
        }
        self.asked.push(at);
        self.commands.put_u8(b' ');
        self.commands.extend_from_slice(key);
    }
}

/// Within this time nearly every answer is there: until then one is waited for after the other, which
/// costs the least, and then for all that are left at once.
const SOON: Duration = Duration::from_millis(5);
/// What gives a lease begins so, and is not repeatable.
const CLAIM: &[u8] = b"mg ";
const GET: &[u8] = b"get";
const END_OF_LINE: &[u8] = b"\r\n";
