//! The one task that speaks with the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Cmd;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::batch::{Answers, Call, Caller, unfinished};
use super::link::{Link, LinkError};
use super::{Ask, State};
use crate::limits::clock::Clock;
use crate::limits::decide::{Basis, Decision, decide_locked};
use crate::limits::reservation::Reservation;
use crate::limits::table::{HolderState, Table, lock};
use crate::metrics;

/// How often leases are looked through, changes told, and a lost server looked for.
const TICK: Duration = Duration::from_millis(50);
/// A node says at least so often that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Requests in one batch.
const ASKS_MAX: usize = 256;
/// How often a request is asked for anew because others spent what had been leased before.
const TRIES_MAX: u8 = 4;
/// Holders told of in one batch.
const TELLS_MAX: usize = 512;

pub(super) struct Task {
    link: Link,
    asked: mpsc::Receiver<Ask>,
    state: Arc<State>,
    table: Arc<Table>,
    clock: Arc<Clock>,
    caller: Caller,
    /// To be asked once more.
    again: Vec<Ask>,
    /// When the server was last heard; `None`: not yet, over this connection.
    heard: Option<Instant>,
}

impl Task {
    pub fn new(
        link: Link,
        (asked, state): (mpsc::Receiver<Ask>, Arc<State>),
        (table, clock): (Arc<Table>, Arc<Clock>),
    ) -> Self {
        let caller = Caller { node: format!("{:016x}", fastrand::u64(..)), number: 0 };
        Self { link, asked, state, table, clock, caller, again: Vec::new(), heard: None }
    }

    /// Runs until nobody can ask any more.
    pub async fn run(mut self) {
        let mut tick: Interval = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut asks = std::mem::take(&mut self.again);
            tokio::select! {
                biased;
                () = std::future::ready(()), if !asks.is_empty() => {}
                received = self.asked.recv_many(&mut asks, ASKS_MAX) => if received == 0 { return },
                _ = tick.tick() => {}
            }
            if !self.state.up.load(Ordering::Relaxed) {
                // Who asked is told nothing, and decides by itself.
                drop(asks);
                self.mend().await;
                continue;
            }
            if let Err(error) = self.batch(asks).await {
                self.down(&error);
            }
        }
    }

    async fn mend(&mut self) {
        if self.link.mend().await.is_err() {
            // Said when it went down; a line for every attempt would drown the log.
            tokio::time::sleep(TICK).await;
            return;
        }
        // The server may have lost everything: all is told anew.
        self.heard = None;
        for holder in self.table.all() {
            let mut buckets = holder.buckets.lock();
            buckets.iter_mut().for_each(|bucket| bucket.lease.told = None);
            self.state.changed(&holder, &mut buckets);
        }
        while !self.state.changed.lock().is_empty() {
            if let Err(error) = self.batch(Vec::new()).await {
                log::debug!("limits: {}: {error}", self.link.shown());
                return;
            }
            if self.all_idle() {
                break;
            }
        }
        if self.batch(Vec::new()).await.is_ok() {
            log::info!("limits: shared through {}", self.link.shown());
            self.state.up.store(true, Ordering::Relaxed);
            metrics::limits_shared(true);
        }
    }

    /// Whether all that waits has been told, and waits for its lease to end only.
    fn all_idle(&self) -> bool {
        let now = self.clock.now();
        let changed = self.state.changed.lock().clone();
        changed.iter().all(|holder| {
            let mut buckets = holder.buckets.lock();
            buckets.iter_mut().all(|bucket| bucket.lease.owed == 0 && !bucket.lease.expired(now))
        })
    }

    fn down(&mut self, error: &LinkError) {
        log::warn!("limits: {}: {error}; each node enforces its share", self.link.shown());
        self.state.up.store(false, Ordering::Relaxed);
        metrics::limits_shared(false);
    }

    /// Tells what changed, and asks for `asks`.
    async fn batch(&mut self, asks: Vec<Ask>) -> Result<(), LinkError> {
        let now = self.clock.now();
        let changed = self.take_changed();
        let tells: Vec<Call> = changed.iter().filter_map(|holder| Call::tell(holder, now)).collect();
        let wants: Vec<Call> = asks.iter().map(|ask| Call::ask(ask, now)).collect();
        let alive = tells.is_empty() && wants.is_empty() && self.heard.is_none_or(|heard| heard.elapsed() >= HEARTBEAT);
        let alive = alive.then(Call::alive);
        let tells: Vec<Call> = tells.into_iter().chain(alive).collect();
        let sent = self.send(&tells, &wants).await;
        let result = sent.and_then(|answers| {
            let (told, asked) = answers.split_at_checked(tells.len()).ok_or(LinkError::Senseless)?;
            self.told(&tells, told)?;
            self.granted((&wants, asks), asked)
        });
        if result.is_err() {
            tells.iter().for_each(Call::lost);
        }
        self.look_again(&changed, result.is_err());
        result
    }

    fn take_changed(&self) -> Vec<Arc<HolderState>> {
        let mut changed = self.state.changed.lock();
        let few = changed.len().min(TELLS_MAX);
        let taken: Vec<_> = changed.drain(..few).collect();
        drop(changed);
        taken.iter().for_each(|holder| holder.buckets.lock().queued = false);
        taken
    }

    async fn send(&mut self, tells: &[Call], wants: &[Call]) -> Result<Vec<Vec<u64>>, LinkError> {
        self.caller.number += 1;
        let tells = tells.iter().map(|call| call.command(&self.link, (&self.caller, "tell")));
        let wants = wants.iter().map(|call| call.command(&self.link, (&self.caller, "ask")));
        let commands: Vec<Cmd> = tells.chain(wants).collect();
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let answers = self.link.send(&commands).await;
        metrics::limits_server(began.elapsed());
        answers
    }

    fn told(&mut self, tells: &[Call], answers: &[Vec<u64>]) -> Result<(), LinkError> {
        let now = self.clock.now();
        for (call, answer) in tells.iter().zip(answers) {
            let answers = Answers::read(call, answer).ok_or(LinkError::Senseless)?;
            call.told(&answers, now);
            self.state.nodes.store(answers.nodes, Ordering::Relaxed);
            self.heard = Some(Instant::now());
        }
        Ok(())
    }

    /// Decides on each request with what was granted for it, before others can spend it.
    fn granted(&mut self, (wants, asks): (&[Call], Vec<Ask>), answers: &[Vec<u64>]) -> Result<(), LinkError> {
        let now = self.clock.now();
        for ((call, ask), answer) in wants.iter().zip(asks).zip(answers) {
            let answers = Answers::read(call, answer).ok_or(LinkError::Senseless)?;
            let mut locked = lock(&ask.holds);
            call.answered(&mut locked, &answers, now);
            let decision = decide_locked(&ask.holds, &mut locked, (&ask.cost, Basis::Leased, now));
            for (hold, buckets) in ask.holds.iter().zip(&mut locked) {
                // Leases end, and somebody has to see to it.
                self.state.changed(&hold.state, buckets);
            }
            drop(locked);
            self.answer(ask, decision);
        }
        Ok(())
    }

    /// Leases end by themselves, and what was not told has to be told again.
    fn look_again(&self, changed: &[Arc<HolderState>], failed: bool) {
        for holder in changed {
            let mut buckets = holder.buckets.lock();
            if failed || unfinished(&mut buckets) {
                self.state.changed(holder, &mut buckets);
            }
        }
    }

    /// Tells who asked. An answer that nobody waits for any more is dropped, and gives back what it holds.
    fn answer(&mut self, mut ask: Ask, decision: Decision) {
        let decided = match decision {
            Decision::Taken(marks, standing) => {
                let fleet = Some(Arc::clone(&self.state));
                let taken = (ask.holds, marks);
                Ok(Reservation::new((Arc::clone(&self.clock), fleet), taken, (ask.cost, standing)))
            }
            Decision::Ask if ask.tries < TRIES_MAX => {
                ask.tries += 1;
                self.again.push(ask);
                return;
            }
            decision @ (Decision::Refused(..) | Decision::Ask) => Err(decision),
        };
        drop(ask.answer.send(decided));
    }
}
