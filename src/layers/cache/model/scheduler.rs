//! One thread that plays many: which task runs next, and when time passes, is drawn from a seed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::driver::Job;
use crate::testing::ManualClock;

thread_local! {
    static MODEL: RefCell<Option<Arc<Model>>> = const { RefCell::new(None) };
}

/// Called where another thread could run: lets the model run some other tasks here.
pub(crate) fn preempted() {
    let model = MODEL.with(|model| model.try_borrow().ok().and_then(|model| model.clone()));
    if let Some(model) = model {
        model.preempt();
    }
}

/// A draw that depends on the seed alone (xorshift64*).
pub(super) struct Draw(AtomicU64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
    }

    pub(super) fn below(&self, limit: usize) -> usize {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        let drawn = x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap() % limit
    }

    pub(super) fn of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

struct Task {
    // Taken out while it is polled, so that a nested run does not poll it again.
    future: RefCell<Option<Job>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) struct Model {
    pub(super) draw: Draw,
    pub(super) clock: ManualClock,
    /// Whether all time that passes is time in which the process stood still.
    stands_still: bool,
    depth: AtomicUsize,
    tasks: RefCell<Vec<Arc<Task>>>,
    jobs: RefCell<mpsc::UnboundedReceiver<Job>>,
    /// What the first task that panicked has said.
    failed: RefCell<Option<String>>,
}

// It never leaves its thread; `Arc` only shares it between the scheduler and the hook.
impl Model {
    /// A model that hears of preemptions on this thread, until the next one or [`leave`].
    pub(super) fn enter(
        draw: Draw,
        clock: ManualClock,
        jobs: mpsc::UnboundedReceiver<Job>,
        stands_still: bool,
    ) -> Arc<Self> {
        #[allow(clippy::arc_with_non_send_sync, reason = "it stays on this thread")]
        let model = Arc::new(Self {
            draw,
            clock,
            stands_still,
            depth: AtomicUsize::new(0),
            tasks: RefCell::default(),
            jobs: RefCell::new(jobs),
            failed: RefCell::default(),
        });
        MODEL.set(Some(Arc::clone(&model)));
        model
    }

    pub(super) fn spawn(&self, future: Job) {
        let task = Task {
            future: RefCell::new(Some(future)),
            woken: Arc::new(Woken(AtomicBool::new(true))),
        };
        #[allow(clippy::arc_with_non_send_sync, reason = "it stays on this thread")]
        self.tasks.borrow_mut().push(Arc::new(task));
    }

    /// Polls one task that was woken; `false` when none was.
    pub(super) fn step(&self) -> bool {
        while let Ok(job) = self.jobs.borrow_mut().try_recv() {
            self.spawn(job);
        }
        let ready: Vec<Arc<Task>> = {
            let tasks = self.tasks.borrow();
            let ready = tasks.iter().filter(|task| {
                task.woken.0.load(Ordering::Relaxed) && task.future.borrow().is_some()
            });
            ready.cloned().collect()
        };
        if ready.is_empty() {
            return false;
        }
        let task = &ready[self.draw.below(ready.len())];
        let Some(mut future) = task.future.borrow_mut().take() else {
            return true;
        };
        // It was woken, and is looked at late.
        if self.draw.below(40) == 0 {
            self.pass(Duration::from_millis(
                self.draw.of(&[100, 1_000, 4_000, 12_000]),
            ));
        }
        task.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.woken));
        let mut cx = Context::from_waker(&waker);
        // Kept here: a task may run within a waker, and a clock catches what that panics with.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        match polled {
            Ok(polled) if polled.is_pending() => *task.future.borrow_mut() = Some(future),
            ended => {
                let mut tasks = self.tasks.borrow_mut();
                tasks.retain(|held| !Arc::ptr_eq(held, task));
                if let Err(panic) = ended {
                    self.failed.borrow_mut().get_or_insert(said(&*panic));
                }
            }
        }
        true
    }

    /// What another thread could do meanwhile: some tasks run, and some time passes.
    fn preempt(&self) {
        // Deep enough for any two operations to fall into a third.
        if self.depth.load(Ordering::Relaxed) >= 3 {
            return;
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
        for _ in 0..self.draw.below(4) {
            if self.draw.below(12) == 0 {
                let millis = self.draw.of(&[20, 50, 100, 250, 1_000, 3_000]);
                self.pass(Duration::from_millis(millis));
            } else {
                self.step();
            }
        }
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lets time pass: it does, or the process stands still meanwhile.
    pub(super) fn pass(&self, time: Duration) {
        if self.stands_still || self.draw.below(4) == 0 {
            self.clock.stall(time);
        } else {
            self.clock.advance(time);
        }
    }

    /// How many tasks have not ended.
    pub(super) fn left(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Fails when a task has.
    pub(super) fn check(&self) {
        if let Some(said) = &*self.failed.borrow() {
            panic!("{said}");
        }
    }
}

/// Ends the telling of preemptions on this thread.
pub(super) fn leave() {
    MODEL.set(None);
}

/// The text that something panicked with.
pub(super) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_default()
}
