//! Calls the wakers of those who are due: foreign code, which may panic and may block, and so never
//! runs on the clock's own thread.
//!
//! One thread calls them, one after another, and ends when there was nothing to call for a while.
//! While one blocks, more are started, up to a bound. The clock's thread hands wakers over and looks
//! after them; it waits for none.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::clock::Moment;
use crate::foreign::foreign;
use crate::sync::lock;

#[derive(Debug, Default)]
pub(super) struct Wakers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Waker>,
    threads: usize,
    /// Of the threads, those that wait for work.
    idle: usize,
    /// How many wakers were taken from the queue, now and when it was last looked at.
    taken: u64,
    taken_before: u64,
    looked: Option<Moment>,
    ended: bool,
}

impl Wakers {
    /// So many wakers may block at once; all others then wait for one of them.
    const MOST: usize = 32;
    /// A waker that takes longer is taken to block.
    const LOOK: Duration = Duration::from_millis(5);
    /// How long a thread waits for more to do.
    const IDLE: Duration = Duration::from_secs(10);

    /// Has these called, in their order as long as none of them blocks.
    pub(super) fn call(&self, due: Vec<Waker>, now: Moment) {
        if due.is_empty() {
            return;
        }
        let mut state = lock(&self.0.state);
        if state.queue.is_empty() {
            state.looked = Some(now);
            state.taken_before = state.taken;
        }
        state.queue.extend(due);
        let none = state.threads == 0;
        drop(state);
        self.0.work.notify_one();
        if none {
            self.start(1);
        }
    }

    /// Starts more threads if those that are there do not get on. Answers when to look again.
    pub(super) fn look(&self, now: Moment) -> Option<Duration> {
        let mut state = lock(&self.0.state);
        if state.queue.is_empty() || state.threads >= Self::MOST {
            return None;
        }
        let since = state.looked.map_or(Self::LOOK, |looked| now.since(looked));
        if since < Self::LOOK {
            return Some(Self::LOOK - since);
        }
        let stuck = state.taken == state.taken_before && state.idle == 0;
        state.looked = Some(now);
        state.taken_before = state.taken;
        // Twice as many, so that many that block are soon got round; and no more than have work.
        let more = state.threads.max(1).min(state.queue.len());
        let more = more.min(Self::MOST - state.threads);
        drop(state);
        if stuck {
            self.start(more);
        }
        Some(Self::LOOK)
    }

    fn start(&self, number: usize) {
        for _ in 0..number {
            let shared = Arc::clone(&self.0);
            lock(&shared.state).threads += 1;
            let started = std::thread::Builder::new()
                .name("secrets-wake".into())
                .spawn(move || shared.run());
            if started.is_err() {
                let mut state = lock(&self.0.state);
                state.threads -= 1;
                let none = state.threads == 0;
                drop(state);
                // With no thread to be had, late is better than never.
                while none && self.0.call_next() {}
                return;
            }
        }
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        lock(&self.0.state).ended = true;
        self.0.work.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            while self.call_next() {}
            let mut state = lock(&self.state);
            state.idle += 1;
            let nothing = |state: &mut State| state.queue.is_empty() && !state.ended;
            let waited = self.work.wait_timeout_while(state, Wakers::IDLE, nothing);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
            if state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    /// Calls the first in the queue; tells whether there was one.
    fn call_next(&self) -> bool {
        let mut state = lock(&self.state);
        let Some(waker) = state.queue.pop_front() else {
            return false;
        };
        state.taken += 1;
        drop(state);
        call(waker);
        true
    }
}

/// Calls a waker; what it panics with, also when it is dropped, stays its own.
pub(super) fn call(waker: Waker) {
    let woken = foreign(|| waker.wake_by_ref());
    // Apart, for a drop that panics while a panic unwinds would end the process.
    let dropped = foreign(|| drop(waker));
    if woken.is_none() || dropped.is_none() {
        foreign(|| tracing::error!("a waker panicked while a clock was waking it"));
    }
}
