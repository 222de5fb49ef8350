//! Load on a fixed schedule: a request that is late counts from when it was due, so that a server that
//! stalls cannot hide it by being asked less.
//!
//! One thread asks for all visitors: on a machine that the server runs on too, threads for each would
//! take from it more than they ask of it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    fd::OwnedFd,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use super::visitor::Visitor;
use crate::bench::site::server::{Server, own_cpu};

/// How much is asked, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) rate: u64,
    pub(super) length: Duration,
}

/// What became of a plan.
pub(super) struct Spell {
    pub(super) visitors: Vec<Visitor>,
    pub(super) rate: f64,
    pub(super) failed: usize,
    pub(super) answers: Vec<Answered>,
    /// Processors in use on average.
    pub(super) server_cores: f64,
    pub(super) own_cores: f64,
}

/// One answer that came whole.
#[derive(Clone, Copy)]
pub(super) struct Answered {
    pub(super) is_member: bool,
    /// In which second of the plan its request was due.
    pub(super) second: u64,
    /// Microseconds from when its request was due to its last byte.
    pub(super) us: u32,
}

/// Lets the visitors ask what the plan says. Of those who have nothing under way, the one that has
/// rested longest asks next; while all have, requests wait.
pub(super) fn run(visitors: Vec<Visitor>, plan: Plan, server: &Server) -> Result<Spell> {
    let (server_cpu, own) = (server.cpu(), own_cpu());
    let mut crowd = Crowd::new(visitors, plan)?;
    crowd.run()?;
    let took = crowd.start.elapsed().as_secs_f64();
    if let Some(error) = crowd.said {
        eprintln!("a visitor was failed: {error:#}");
    }
    Ok(Spell {
        rate: crowd.answers.len() as f64 / took,
        failed: crowd.failed,
        server_cores: server.cpu().saturating_sub(server_cpu).as_secs_f64() / took,
        own_cores: own_cpu().saturating_sub(own).as_secs_f64() / took,
        visitors: crowd.visitors,
        answers: crowd.answers,
    })
}

struct Crowd {
    plan: Plan,
    start: Instant,
    visitors: Vec<Visitor>,
    /// For each visitor the turn that is under way.
    turns: Vec<Option<u64>>,
    strangers: Class,
    members: Class,
    /// The next turn that is not due yet.
    next: u64,
    poll: OwnedFd,
    answers: Vec<Answered>,
    failed: usize,
    said: Option<anyhow::Error>,
}

/// Visitors of a kind, and what is asked of them.
#[derive(Default)]
struct Class {
    resting: VecDeque<usize>,
    /// Turns that are due and wait for a visitor.
    due: VecDeque<u64>,
}

impl Crowd {
    fn new(visitors: Vec<Visitor>, plan: Plan) -> Result<Self> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let (mut strangers, mut members) = (Class::default(), Class::default());
        for (number, visitor) in visitors.iter().enumerate() {
            let class = if visitor.is_member { &mut members } else { &mut strangers };
            class.resting.push_back(number);
            if let Some(connection) = visitor.connection() {
                epoll::add(&poll, connection, data(number), EventFlags::IN)?;
            }
        }
        Ok(Self {
            plan,
            start: Instant::now() + Duration::from_millis(50),
            turns: vec![None; visitors.len()],
            visitors,
            strangers,
            members,
            next: 0,
            poll,
            answers: Vec::new(),
            failed: 0,
            said: None,
        })
    }

    fn run(&mut self) -> Result<()> {
        let tick = tick()?;
        epoll::add(&self.poll, &tick, EventData::new_u64(TICK), EventFlags::IN)?;
        let all = self.plan.rate * self.plan.length.as_secs();
        let patience = self.start + self.plan.length + PATIENCE;
        let mut events = Vec::with_capacity(256);
        loop {
            while self.next < all && self.due(self.next) <= Instant::now() {
                let turn = self.next;
                self.class(turn.is_multiple_of(MEMBERS_TURN)).due.push_back(turn);
                self.next += 1;
            }
            self.ask(false);
            self.ask(true);
            let is_done = self.next == all && self.turns.iter().all(Option::is_none);
            if is_done || Instant::now() > patience {
                break;
            }
            events.clear();
            epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                match event.data.u64() {
                    TICK => drop(rustix::io::read(&tick, &mut [0; 8])),
                    number => self.read(usize::try_from(number)?),
                }
            }
        }
        self.failed += usize::try_from(all)? - self.failed - self.answers.len();
        Ok(())
    }

    fn due(&self, turn: u64) -> Instant {
        self.start + Duration::from_nanos(turn * 1_000_000_000 / self.plan.rate)
    }

    fn class(&mut self, is_member: bool) -> &mut Class {
        if is_member { &mut self.members } else { &mut self.strangers }
    }

    /// Asks what is due, as far as there are visitors.
    fn ask(&mut self, is_member: bool) {
        loop {
            let class = self.class(is_member);
            if class.due.is_empty() || class.resting.is_empty() {
                return;
            }
            let (Some(turn), Some(number)) = (class.due.pop_front(), class.resting.pop_front())
            else {
                return;
            };
            self.turns[number] = Some(turn);
            if let Err(error) = self.send(number) {
                self.fail(number, error);
            }
        }
    }

    fn send(&mut self, number: usize) -> Result<()> {
        let visitor = &mut self.visitors[number];
        if visitor.connection().is_none() {
            visitor.connect()?;
            let connection = visitor.connection().context("it was opened just now")?;
            epoll::add(&self.poll, connection, data(number), EventFlags::IN)?;
        }
        visitor.ask()
    }

    fn read(&mut self, number: usize) {
        let read = self.visitors[number].read();
        match (read, self.turns[number]) {
            (Ok(false), _) => {}
            (Ok(true), Some(turn)) => {
                let us = u32::try_from(self.due(turn).elapsed().as_micros()).unwrap_or(u32::MAX);
                let second = turn / self.plan.rate;
                let is_member = self.visitors[number].is_member;
                self.answers.push(Answered { is_member, second, us });
                self.rest(number);
            }
            (Err(error), Some(_)) => self.fail(number, error),
            // A connection at rest may be closed.
            (_, None) => self.visitors[number].leave(),
        }
    }

    fn fail(&mut self, number: usize, error: anyhow::Error) {
        self.failed += 1;
        self.said.get_or_insert(error);
        self.visitors[number].leave();
        self.rest(number);
    }

    fn rest(&mut self, number: usize) {
        self.turns[number] = None;
        let is_member = self.visitors[number].is_member;
        self.class(is_member).resting.push_back(number);
    }
}

/// Rings often enough that nothing is late by what it would notice.
fn tick() -> Result<OwnedFd> {
    let tick = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let every = Timespec { tv_sec: 0, tv_nsec: TICK_NS };
    let spec = Itimerspec { it_interval: every, it_value: every };
    timerfd_settime(&tick, TimerfdTimerFlags::empty(), &spec)?;
    Ok(tick)
}

fn data(number: usize) -> EventData {
    EventData::new_u64(number as u64)
}

/// Every twentieth request is a member's.
const MEMBERS_TURN: u64 = 20;
const TICK: u64 = u64::MAX;
const TICK_NS: i64 = 200_000;
const PATIENCE: Duration = Duration::from_secs(30);
