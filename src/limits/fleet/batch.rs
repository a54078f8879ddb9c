//! What is told and asked in one batch, and what the answers change.

use std::sync::Arc;

use redis::Cmd;

use super::Ask;
use super::link::Link;
use crate::config::LimitKind;
use crate::limits::bucket::{Bucket, Level, window_left_ms};
use crate::limits::gcra::{Now, Period};
use crate::limits::lease::{Answer, LEASE_MS};
use crate::limits::table::{Buckets, HolderState, Locked};

/// How long a node that says nothing counts as alive.
const NODE_LIVES_MS: u64 = 10_000;
const DAY_MS: u64 = 86_400_000;

/// Whose calls these are.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// This process; another one has another name.
    pub node: String,
    /// Counts batches: a later one makes an earlier one void.
    pub number: u64,
}

/// One bucket in a call.
#[derive(Debug)]
pub(super) struct Line {
    pub kind: LimitKind,
    pub need: u64,
    owed: i64,
    told: (u64, u64),
    /// Its arguments, in order.
    arguments: [String; 8],
}

/// A call about one holder's buckets, telling, or about all of a request's, asking.
#[derive(Debug)]
pub(super) struct Call {
    /// For each holder its lines.
    lines: Vec<(Arc<HolderState>, Vec<Line>)>,
}

/// What the server says in answer to a call.
pub(super) struct Answers<'a> {
    pub nodes: u64,
    /// Three numbers a line.
    rest: &'a [u64],
}

impl<'a> Answers<'a> {
    /// Reads them; `None` where the call came too late, or where this is no answer to a call.
    pub fn read(call: &Call, answer: &'a [u64]) -> Option<Self> {
        let [0, nodes, rest @ ..] = answer else { return None };
        let lines: usize = call.lines.iter().map(|(_, lines)| lines.len()).sum();
        (rest.len() == 3 * lines).then_some(Self { nodes: (*nodes).max(1), rest })
    }
}

impl Line {
    fn new(bucket: &Bucket, (need, wish): (u64, u64), now: Now) -> Self {
        let (kind, number, used, held, lives_ms) = match &bucket.level {
            Level::Meter(_) => ("m", 0, bucket.lease.owed, 0, 0),
            Level::Window(period, window) => {
                let lives_ms = match period {
                    Period::Day => 2 * DAY_MS,
                    Period::Month => 33 * DAY_MS,
                };
                let (used, held) = (window.used, window.held + bucket.lease.spare);
                ("w", window.number, i64::try_from(used).unwrap_or(i64::MAX), held, lives_ms)
            }
            Level::Count(count) => ("c", 0, 0, count + bucket.lease.spare, DAY_MS),
        };
        // A bucket's key lives as long as what it counts; a clock that is behind makes it live a little longer.
        let lives_ms = lives_ms + now.unix_ms % 1_000;
        let numbers = [bucket.amount, need, wish, number].map(|number| number.to_string());
        let [amount, need_text, wish, number_text] = numbers;
        let arguments = [
            kind.to_owned(),
            amount,
            need_text,
            wish,
            number_text,
            used.to_string(),
            held.to_string(),
            lives_ms.to_string(),
        ];
        let told = told(bucket);
        Self { kind: bucket.kind, need, owed: bucket.lease.owed, told, arguments }
    }
}

/// What the server is told of a window or slots.
fn told(bucket: &Bucket) -> (u64, u64) {
    match &bucket.level {
        Level::Meter(_) => (0, 0),
        Level::Window(_, window) => (window.number ^ window.used.rotate_left(20), window.held + bucket.lease.spare),
        Level::Count(count) => (0, count + bucket.lease.spare),
    }
}

impl Call {
    /// A call that says no more than that this node is alive.
    pub fn alive() -> Self {
        Self { lines: Vec::new() }
    }

    /// What is to be told of `holder`, if anything; takes back what was leased and not spent in time.
    pub fn tell(holder: &Arc<HolderState>, now: Now) -> Option<Self> {
        let mut buckets = holder.buckets.lock();
        let mut lines = Vec::new();
        for bucket in buckets.iter_mut() {
            bucket.advance(bucket.amount, now);
            bucket.lease.expire((&bucket.level, bucket.amount), now);
            let news = bucket.lease.owed != 0 || bucket.lease.told != Some(told(bucket));
            let counts = !matches!(bucket.level, Level::Meter(_)) || bucket.lease.owed != 0;
            if news && counts && bucket.amount > 0 {
                lines.push(Line::new(bucket, (0, 0), now));
                bucket.lease.owed = 0;
            }
        }
        (!lines.is_empty()).then(|| Self { lines: vec![(Arc::clone(holder), lines)] })
    }

    /// What a request needs beyond what is leased.
    pub fn ask(ask: &Ask, now: Now) -> Self {
        let mut lines = Vec::new();
        for hold in &ask.holds {
            let mut buckets = hold.state.buckets.lock();
            let mut asked = Vec::new();
            for limit in hold.limits.iter() {
                let bucket = buckets.of(limit.kind);
                bucket.advance(limit.amount, now);
                bucket.lease.expire((&bucket.level, limit.amount), now);
                let cost = ask.cost.units(limit.kind).min(limit.amount);
                if !bucket.lease.covers(cost, now) {
                    let wish = bucket.lease.wish(cost, now);
                    let owed = std::mem::take(&mut bucket.lease.owed);
                    asked.push(Line::new(bucket, (cost, wish), now));
                    bucket.lease.owed = owed;
                }
            }
            lines.push((Arc::clone(&hold.state), asked));
        }
        Self { lines }
    }

    /// The command that makes this call.
    pub fn command(&self, link: &Link, (caller, verb): (&Caller, &str)) -> Cmd {
        let lines = || self.lines.iter().flat_map(|(holder, lines)| lines.iter().map(move |line| (holder, line)));
        let mut command = link.call(2 + lines().count());
        // One tag, so that a cluster keeps all of them on one node.
        command.arg("{forge-limits}:nodes").arg("{forge-limits}:calls");
        for (holder, line) in lines() {
            command.arg(format!("{{forge-limits}}:{}:{}:{}", line.kind.name(), holder.kind.name(), holder.id));
        }
        command.arg(&caller.node).arg(caller.number).arg(verb).arg(NODE_LIVES_MS);
        for (_, line) in lines() {
            command.arg(&line.arguments);
        }
        command
    }

    /// Takes in what the server says to a call that told.
    pub fn told(&self, answers: &Answers<'_>, now: Now) {
        let mut locked: Vec<_> = self.lines.iter().map(|(holder, _)| holder.buckets.lock()).collect();
        self.answered(&mut locked, answers, now);
    }

    /// Takes in what the server says to a call; `locked` are its holders.
    pub fn answered(&self, locked: &mut [Locked<'_>], answers: &Answers<'_>, now: Now) {
        let mut rest = answers.rest.chunks_exact(3);
        for ((_, lines), buckets) in self.lines.iter().zip(locked) {
            for line in lines {
                let Some(&[granted, wait_ms, room]) = rest.next() else { return };
                let bucket = buckets.of(line.kind);
                let answer = Answer { granted, wait_ms: wait(bucket, wait_ms, now), room };
                bucket.lease.answered((&bucket.level, bucket.amount), (line.need, answer, answers.nodes), now);
                if line.need == 0 {
                    bucket.lease.told = Some(line.told);
                }
            }
        }
    }

    /// The call may or may not have arrived. What it owed is told again, what it gave back is lost; counts are
    /// told whole anyway.
    pub fn lost(&self) {
        for (holder, lines) in &self.lines {
            let mut buckets = holder.buckets.lock();
            for line in lines.iter().filter(|line| line.need == 0) {
                let lease = &mut buckets.of(line.kind).lease;
                lease.told = None;
                lease.owed += line.owed.max(0);
            }
        }
    }
}

/// The server knows of windows and slots only that there is no room.
fn wait(bucket: &Bucket, wait_ms: u64, now: Now) -> u64 {
    match &bucket.level {
        _ if wait_ms == 0 => 0,
        Level::Meter(_) => wait_ms,
        Level::Window(period, window) => window_left_ms(*period, window, now),
        Level::Count(_) => LEASE_MS,
    }
}

/// Whether a holder has to be looked at again, although nothing happens to it.
pub(super) fn unfinished(buckets: &mut Buckets) -> bool {
    buckets.iter_mut().any(|bucket| !bucket.lease.idle())
}
