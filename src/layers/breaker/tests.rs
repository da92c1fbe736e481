//! The breaker on a manual clock: when it opens, who tries, and what changes nothing.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::layers::Deadline;
use crate::name::NameRef;
use crate::resolver::SecretResolverExt;
use crate::secret::Record;
use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};
use crate::testing::{Gate, ManualClock, MockBackend, Reply};

const NAME: &str = "prod/db#password";

type Answer<'a> = Pin<Box<ResolveFuture<'a>>>;

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match poll(&mut Box::pin(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A store of several endpoints, one mock each.
#[derive(Clone, Debug)]
struct Fleet(Vec<MockBackend>);

impl Fleet {
    fn new(endpoints: usize) -> Self {
        let endpoint = |_| MockBackend::new().with_value(NAME, "v1");
        Self((0..endpoints).map(endpoint).collect())
    }

    fn calls(&self) -> Vec<usize> {
        self.0.iter().map(MockBackend::calls).collect()
    }
}

impl SecretResolver for Fleet {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        match self.0.get(request.endpoint().unwrap_or(0)) {
            Some(endpoint) => endpoint.resolve(request),
            None => ResolveFuture::ready(Err(Error::new(ErrorKind::NotFound, "no such endpoint"))),
        }
    }

    fn endpoints(&self) -> usize {
        self.0.len()
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        for endpoint in &self.0 {
            let _ = now(endpoint.shutdown(deadline));
        }
        ShutdownFuture::ready(crate::ShutdownReport::default())
    }
}

struct Bench {
    clock: ManualClock,
    fleet: Fleet,
    breaker: Breaker<Fleet>,
}

fn bench(endpoints: usize) -> Bench {
    bench_with(endpoints, BreakerConfig::default())
}

fn bench_with(endpoints: usize, config: BreakerConfig) -> Bench {
    let clock = ManualClock::new();
    let fleet = Fleet::new(endpoints);
    let breaker = Breaker::new(fleet.clone(), Arc::new(clock.clone()), config).unwrap();
    Bench {
        clock,
        fleet,
        breaker,
    }
}

fn request() -> Request<'static> {
    Request::new(NameRef::parse(NAME).unwrap())
}

impl Bench {
    /// The reply of every endpoint from now on; `None` for the stored value.
    fn all(&self, reply: impl Into<Option<Reply>>) {
        let reply = reply.into();
        for endpoint in &self.fleet.0 {
            endpoint.always(reply.clone());
        }
    }

    fn fail(&self) {
        self.all(Reply::Error(ErrorKind::Unavailable));
    }

    fn start(&self) -> Answer<'_> {
        Box::pin(self.breaker.resolve(request()))
    }

    /// One attempt that is over at once.
    fn ask(&self) -> Result<Record, Error> {
        now(self.breaker.resolve(request()))
    }

    fn kind(&self) -> Option<ErrorKind> {
        self.ask().err().map(|error| error.kind())
    }

    /// Whether an attempt is refused without anybody being asked.
    fn refuses(&self) -> bool {
        let before = self.fleet.calls();
        let refused = self.ask().is_err_and(|error| is_open(&error));
        assert_eq!(refused, before == self.fleet.calls());
        refused
    }

    fn state(&self, endpoint: usize) -> BreakerState {
        self.breaker.status()[endpoint].state
    }

    fn failures(&self) -> u32 {
        self.breaker.status()[0].failures
    }

    /// Opens the breaker of a store with one endpoint.
    fn open(&self) {
        self.fail();
        for _ in 0..5 {
            assert!(!self.refuses());
        }
        assert!(matches!(self.state(0), BreakerState::Open { .. }));
    }
}

#[tokio::test]
async fn it_keeps_all_laws() {
    for endpoints in [1, 3] {
        let fleet = Fleet::new(endpoints);
        for endpoint in &fleet.0 {
            endpoint.set("a/b#c", "one-canary");
            endpoint.set("a/d", "two-canary");
        }
        let clock = Arc::new(ManualClock::new());
        let breaker = Breaker::new(fleet, clock, BreakerConfig::default()).unwrap();
        let subject = Subject::new(Arc::new(breaker), "no/such").unwrap();
        let subject = subject.stores("a/b#c", "one-canary").unwrap();
        let subject = subject.stores("a/d", "two-canary").unwrap();
        all(&subject).await.unwrap();
        after_shutdown_all_is_refused(&subject).await.unwrap();
    }
}

#[test]
fn five_failures_in_a_row_open_it_and_four_do_not() {
    let bench = bench(1);
    for _ in 0..10 {
        bench.fail();
        for _ in 0..4 {
            assert!(!bench.refuses());
        }
        assert_eq!(
            (bench.state(0), bench.failures()),
            (BreakerState::Closed, 4)
        );
        bench.all(None);
        bench.ask().unwrap();
        assert_eq!(bench.failures(), 0);
    }
    bench.open();
    assert!(bench.refuses());
}

#[test]
fn only_what_the_table_says_counts() {
    for kind in ErrorKind::ALL {
        let bench = bench(1);
        bench.all(Reply::Error(kind));
        for _ in 0..50 {
            let _ = bench.ask();
        }
        assert_eq!(
            bench.refuses(),
            kind.permits().counts_for_breaker,
            "{kind:?}"
        );
    }
}

#[test]
fn what_the_store_answered_is_a_sign_of_life_and_what_we_decided_is_none() {
    use ErrorKind::{Closed, InvalidName, Misconfigured, Overloaded};
    for kind in ErrorKind::ALL {
        if kind.permits().counts_for_breaker {
            continue;
        }
        let ours = matches!(kind, Overloaded | InvalidName | Misconfigured | Closed);
        let bench = bench(1);
        bench.fail();
        (0..4).for_each(|_| drop(bench.ask()));
        bench.all(Reply::Error(kind));
        let _ = bench.ask();
        assert_eq!(bench.failures(), if ours { 4 } else { 0 }, "{kind:?}");
        // As a trial: our own decision gives the place back, an answer closes it.
        let bench = self::bench(1);
        bench.open();
        bench.clock.advance(secs(1));
        bench.all(Reply::Error(kind));
        let _ = bench.ask();
        let after = match ours {
            true => BreakerState::HalfOpen { trial: None },
            false => BreakerState::Closed,
        };
        assert_eq!(bench.state(0), after, "{kind:?}");
        bench.all(None);
        bench.ask().unwrap();
        assert_eq!(bench.state(0), BreakerState::Closed);
    }
}

#[test]
fn an_open_breaker_answers_at_once_and_says_when_to_come_back() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(Duration::from_millis(300));
    let error = bench.ask().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(700)));
    assert!(error.to_string().contains("the breaker is open"), "{error}");
    assert_eq!(bench.fleet.calls(), [5]);
    bench.clock.advance(Duration::from_millis(699));
    assert!(bench.refuses());
    bench.clock.advance(Duration::from_millis(1));
    assert!(!bench.refuses());
}

#[test]
fn it_stays_open_twice_as_long_each_time_and_never_longer_than_15_s() {
    let bench = bench(1);
    bench.open();
    for wait in [1, 2, 4, 8, 15, 15, 15] {
        let BreakerState::Open { until } = bench.state(0) else {
            panic!("not open");
        };
        assert_eq!(until.since(bench.clock.now()), secs(wait));
        bench.clock.advance(secs(wait));
        assert!(!bench.refuses());
    }
    // A day of outage, and it is still asked every 15 s.
    for _ in 0..5760 {
        bench.clock.advance(secs(15));
        assert!(!bench.refuses());
        assert!(bench.refuses());
    }
    // Once it was closed, it starts at one second again, after five failures.
    bench.clock.advance(secs(15));
    bench.all(None);
    bench.ask().unwrap();
    assert_eq!(bench.failures(), 0);
    bench.open();
    bench.clock.advance(secs(1));
    assert!(!bench.refuses());
}

#[test]
fn one_trial_at_a_time() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(secs(1));
    let gate = Gate::new();
    bench.all(gate.then(Reply::Stored));
    let mut trial = bench.start();
    assert!(poll(&mut trial).is_pending());
    for _ in 0..1000 {
        assert!(bench.refuses());
    }
    let error = bench.ask().unwrap_err();
    assert_eq!(error.retry_after(), Some(secs(15)));
    gate.open();
    assert!(matches!(poll(&mut trial), Poll::Ready(Ok(_))));
    assert_eq!(bench.state(0), BreakerState::Closed);
    assert!(!bench.refuses());
}

#[test]
fn a_cancelled_or_panicking_trial_gives_its_place_back() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(secs(1));
    for _ in 0..100 {
        bench.all(Reply::Hang);
        let mut trial = bench.start();
        assert!(poll(&mut trial).is_pending());
        assert!(bench.refuses());
        drop(trial);
        let mut many = Box::pin(bench.breaker.get_many(&[NAME]));
        assert!(poll(&mut many).is_pending());
        assert!(bench.refuses());
        drop(many);
        bench.all(Reply::Panic);
        let mut trial = bench.start();
        assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut trial))).is_err());
        // The future is kept: the place must be free before it is dropped.
        assert_eq!(bench.state(0), BreakerState::HalfOpen { trial: None });
    }
    // One that was never polled holds no place.
    let _idle = bench.start();
    bench.all(None);
    bench.ask().unwrap();
    assert_eq!(bench.state(0), BreakerState::Closed);
}

#[test]
fn a_late_answer_from_before_a_change_changes_nothing() {
    let bench = bench(1);
    let (good, bad) = (Gate::new(), Gate::new());
    let endpoint = &bench.fleet.0[0];
    let fails = || Reply::Error(ErrorKind::Unavailable);
    // Begun while closed: two that will be answered, ten that will fail.
    endpoint.script(NAME, [good.then(Reply::Stored), good.then(Reply::Stored)]);
    endpoint.script(NAME, (0..10).map(|_| bad.then(fails())));
    let mut good_ones: Vec<_> = (0..2).map(|_| bench.start()).collect();
    let mut bad_ones: Vec<_> = (0..10).map(|_| bench.start()).collect();
    assert!(good_ones.iter_mut().all(|one| poll(one).is_pending()));
    assert!(bad_ones.iter_mut().all(|one| poll(one).is_pending()));
    bench.open();
    let open = bench.state(0);
    good.open();
    bad.open();
    // While open: neither closed by a success, nor longer open by a failure.
    assert!(poll(&mut good_ones[0]).is_ready() && poll(&mut bad_ones[0]).is_ready());
    assert_eq!(bench.state(0), open);
    // While a trial is under way: neither ended.
    bench.clock.advance(secs(1));
    let gate = Gate::new();
    bench.all(gate.then(Reply::Stored));
    let mut trial = bench.start();
    assert!(poll(&mut trial).is_pending());
    let half_open = bench.state(0);
    assert!(poll(&mut good_ones[1]).is_ready() && poll(&mut bad_ones[1]).is_ready());
    drop(bad_ones.pop());
    assert_eq!(bench.state(0), half_open);
    assert!(bench.refuses());
    // Once closed: the rest of the old failures is no reason to open.
    gate.open();
    assert!(poll(&mut trial).is_ready());
    assert!(bad_ones[2..].iter_mut().all(|one| poll(one).is_ready()));
    assert_eq!(
        (bench.state(0), bench.failures()),
        (BreakerState::Closed, 0)
    );
}

#[test]
fn a_trial_that_is_lost_loses_its_place_and_its_late_answer_says_nothing() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(secs(1));
    let gate = Gate::new();
    bench.fleet.0[0].script(NAME, [gate.then(Reply::Stored), Reply::Hang]);
    // Somebody keeps it and never polls it again.
    let mut lost = bench.start();
    assert!(poll(&mut lost).is_pending());
    bench.clock.advance(secs(15) - Duration::from_nanos(1));
    assert!(bench.refuses());
    bench.clock.advance(Duration::from_nanos(1));
    let mut trial = bench.start();
    assert!(poll(&mut trial).is_pending());
    let half_open = bench.state(0);
    gate.open();
    assert!(poll(&mut lost).is_ready());
    drop(lost);
    assert_eq!(bench.state(0), half_open);
    drop(trial);
    bench.all(None);
    bench.ask().unwrap();
    assert_eq!(bench.state(0), BreakerState::Closed);
}

#[test]
fn endpoints_are_asked_in_turn_and_the_next_attempt_goes_to_another() {
    let bench = bench(3);
    for _ in 0..4 {
        for turn in 0..3 {
            let before = bench.fleet.calls();
            bench.ask().unwrap();
            assert_eq!(bench.fleet.calls()[turn], before[turn] + 1);
        }
    }
    // Also when all at once hang.
    bench.all(Reply::Hang);
    let mut all: Vec<_> = (0..9).map(|_| bench.start()).collect();
    assert!(all.iter_mut().all(|one| poll(one).is_pending()));
    assert_eq!(bench.fleet.calls(), [7, 7, 7]);
}

#[test]
fn an_endpoint_that_fails_is_passed_over_and_the_others_are_not() {
    let bench = bench(3);
    let fails = || Reply::Error(ErrorKind::Timeout);
    bench.fleet.0[1].always(fails());
    let failed = (0..30).filter(|_| bench.ask().is_err()).count();
    assert_eq!(failed, 5);
    assert_eq!(bench.fleet.calls()[1], 5);
    let status = bench.breaker.status();
    let closed = |at: usize| status[at].state == BreakerState::Closed;
    assert!(closed(0) && !closed(1) && closed(2));
    assert_eq!([0, 1, 2].map(|at| status[at].endpoint), [0, 1, 2]);
    // While the others answer, it is tried when its time has come, and only once.
    bench.clock.advance(secs(1));
    let failed = (0..30).filter(|_| bench.ask().is_err()).count();
    assert_eq!((failed, bench.fleet.calls()[1]), (1, 6));
    bench.fleet.0[1].always(None);
    bench.clock.advance(secs(2));
    assert!((0..3).all(|_| bench.ask().is_ok()));
    assert_eq!(bench.state(1), BreakerState::Closed);
    // All of them down: refused, until the first one is due.
    bench.fail();
    while !bench.refuses() {}
    bench.clock.advance(Duration::from_millis(400));
    let error = bench.ask().unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(600)));
}

#[test]
fn a_directed_request_stays_where_it_is_and_is_counted_there() {
    let bench = bench(2);
    let at = |endpoint: usize| now(bench.breaker.resolve(request().at_endpoint(endpoint)));
    bench.fleet.0[1].always(Reply::Error(ErrorKind::Unavailable));
    for _ in 0..5 {
        assert!(!is_open(&at(1).unwrap_err()));
    }
    assert!(is_open(&at(1).unwrap_err()));
    assert!(at(0).is_ok());
    assert_eq!(bench.fleet.calls(), [1, 5]);
    // An endpoint that is not there is the store's to refuse.
    for _ in 0..10 {
        assert_eq!(at(usize::MAX).unwrap_err().kind(), ErrorKind::NotFound);
    }
    // So is a batch that somebody has directed apart.
    let apart = [request().at_endpoint(1), request().at_endpoint(0)];
    let answers = now(bench.breaker.resolve_many(&apart));
    assert!(is_open(answers[0].as_ref().unwrap_err()) && answers[1].is_ok());
}

#[test]
fn a_directed_request_moves_nobodys_turn() {
    let bench = bench(3);
    bench.ask().unwrap();
    now(bench.breaker.resolve(request().at_endpoint(2))).unwrap();
    bench.ask().unwrap();
    assert_eq!(bench.fleet.calls(), [1, 1, 1]);
}

#[test]
fn of_several_open_endpoints_the_soonest_says_when_to_come_back() {
    let bench = bench(2);
    bench.fail();
    for endpoint in 0..2 {
        for _ in 0..5 {
            let _ = now(bench.breaker.resolve(request().at_endpoint(endpoint)));
        }
        bench.clock.advance(Duration::from_millis(300));
    }
    let error = bench.ask().unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(400)));
}

#[test]
fn a_batch_is_one_attempt_and_one_answer_in_it_a_sign_of_life() {
    let bench = bench(2);
    bench.fail();
    let batch = || now(bench.breaker.get_many(&[NAME, NAME, "no/such"]));
    for round in 1..=5 {
        for _ in 0..2 {
            assert!(batch().iter().all(Result::is_err));
        }
        assert_eq!(bench.breaker.status()[0].failures, round);
        assert_eq!(
            bench.fleet.calls(),
            [3 * round as usize, 3 * round as usize]
        );
    }
    let answers = batch();
    assert_eq!(answers.len(), 3);
    assert!(
        answers
            .iter()
            .all(|answer| is_open(answer.as_ref().unwrap_err()))
    );
    bench.clock.advance(secs(1));
    for endpoint in &bench.fleet.0 {
        endpoint.script("no/such", [Reply::Stored]);
    }
    batch();
    assert_eq!(bench.state(0), BreakerState::Closed);
    assert!(now(bench.breaker.resolve_many(&[])).is_empty());
}

#[test]
fn an_outer_breaker_does_not_count_the_refusals_of_an_inner_one() {
    let bench = bench(1);
    bench.open();
    let clock = Arc::new(bench.clock.clone());
    let outer = Breaker::new(bench.breaker, clock, BreakerConfig::default()).unwrap();
    for _ in 0..50 {
        let error = now(outer.resolve(request())).unwrap_err();
        assert!(is_open(&error));
    }
    let status = outer.status()[0];
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
}

#[test]
fn callers_in_a_hurry_do_not_open_it_for_others() {
    let clock = ManualClock::new();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let store = MockBackend::new().with_value(NAME, "v1");
    store.always(Reply::Hang);
    let patient = Deadline::new(store.clone(), Arc::clone(&shared), secs(2));
    let breaker = Breaker::new(patient, shared, BreakerConfig::default()).unwrap();
    let timeout = |deadline: Duration| {
        let request = request().with_deadline(clock.now() + deadline);
        let batch = [request];
        let mut one = Box::pin(breaker.resolve(request));
        let mut many = Box::pin(breaker.resolve_many(&batch));
        assert!(poll(&mut one).is_pending() && poll(&mut many).is_pending());
        clock.advance(deadline.min(secs(2)));
        let Poll::Ready(Err(error)) = poll(&mut one) else {
            panic!("it does not end");
        };
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(poll(&mut many).is_ready());
    };
    for _ in 0..50 {
        timeout(Duration::from_millis(999));
    }
    assert_eq!(breaker.status()[0].failures, 0);
    timeout(secs(1));
    timeout(secs(4));
    assert_eq!(breaker.status()[0].failures, 4);
}

#[test]
fn after_shutdown_an_open_breaker_does_not_hide_it() {
    let bench = bench(1);
    bench.open();
    let _ = now(bench.breaker.shutdown(bench.clock.now()));
    assert_eq!(bench.kind(), Some(ErrorKind::Closed));
}

#[test]
fn a_monitor_shows_the_breaker_after_it_has_gone() {
    let bench = bench(2);
    let monitor = bench.breaker.monitor();
    bench.fail();
    let _ = bench.ask();
    let resolver: Arc<dyn SecretResolver> = Arc::new(bench.breaker);
    let _ = now(resolver.resolve(request()));
    let failures: Vec<_> = monitor.status().iter().map(|one| one.failures).collect();
    assert_eq!(failures, [1, 1]);
}

/// Any order of beginnings, answers, cancellations and time, over thousands of schedules: nobody
/// is asked while it is open, one tries at a time, and it always comes back.
#[test]
fn no_schedule_breaks_it() {
    for seed in 1..3_000_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let bench = bench_with(
            1,
            BreakerConfig {
                failures: 2,
                ..BreakerConfig::default()
            },
        );
        let endpoint = &bench.fleet.0[0];
        let mut flying: Vec<(Gate, Answer<'_>)> = Vec::new();
        let mut trial_since = None;
        for _ in 0..60 {
            match draw(5) {
                0 | 1 => {
                    let before = bench.state(0);
                    let gate = Gate::new();
                    let ends = match draw(4) {
                        0 => Reply::Stored,
                        1 => Reply::Error(ErrorKind::Overloaded),
                        _ => Reply::Error(ErrorKind::Timeout),
                    };
                    endpoint.always(gate.then(ends));
                    let calls = endpoint.calls();
                    let mut answer = bench.start();
                    let admitted = poll(&mut answer).is_pending();
                    assert_eq!(endpoint.calls(), calls + usize::from(admitted));
                    let now = bench.clock.now();
                    let may = match before {
                        BreakerState::Closed | BreakerState::HalfOpen { trial: None } => true,
                        BreakerState::Open { until } => now >= until,
                        BreakerState::HalfOpen { trial: Some(since) } => {
                            assert_eq!(trial_since, Some(since));
                            now.since(since) >= secs(15)
                        }
                    };
                    assert_eq!(admitted, may, "seed {seed}");
                    if admitted && before != BreakerState::Closed {
                        trial_since = Some(now);
                    }
                    if admitted {
                        flying.push((gate, answer));
                    }
                }
                2 if !flying.is_empty() => {
                    let at = draw(flying.len() as u64) as usize;
                    let (gate, mut answer) = flying.swap_remove(at);
                    gate.open();
                    assert!(poll(&mut answer).is_ready());
                }
                3 if !flying.is_empty() => {
                    let at = draw(flying.len() as u64) as usize;
                    drop(flying.swap_remove(at));
                }
                _ => bench.clock.advance(Duration::from_millis(draw(4_000))),
            }
            if let BreakerState::Open { until } = bench.state(0) {
                assert!(until.since(bench.clock.now()) <= secs(15), "seed {seed}");
            }
        }
        drop(flying);
        bench.all(None);
        bench.clock.advance(secs(15));
        bench.ask().unwrap();
        assert_eq!(bench.state(0), BreakerState::Closed, "seed {seed}");
    }
}

/// A subscriber that keeps what it is told.
struct Told(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Told {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                use std::fmt::Write;
                let _ = write!(self.0, " {field}={value:?}");
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        lock(&self.0).push(text.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn opening_warns_and_closing_informs_once_each_without_a_name() {
    let told = Arc::new(Mutex::default());
    tracing::subscriber::with_default(Told(Arc::clone(&told)), || {
        let bench = bench(1);
        bench.open();
        assert!(bench.refuses());
        bench.clock.advance(secs(1));
        bench.all(None);
        bench.ask().unwrap();
        bench.ask().unwrap();
    });
    let told = lock(&told);
    let wanted = [
        "WARN message=the breaker of an endpoint opened endpoint=0 wait=1s",
        "INFO message=the breaker of an endpoint closed endpoint=0",
    ];
    assert_eq!(*told, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn from_many_threads_at_once_one_tries() {
    #[derive(Debug, Default)]
    struct Counts(AtomicUsize, AtomicUsize);
    impl SecretResolver for Counts {
        fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
            ResolveFuture::new(async move {
                let now = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                self.1.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                self.0.fetch_sub(1, Ordering::SeqCst);
                Err(Error::new(ErrorKind::Unavailable, "down"))
            })
        }
    }
    let clock = ManualClock::new();
    let shared = Arc::new(clock.clone());
    let config = BreakerConfig {
        failures: 1,
        ..BreakerConfig::default()
    };
    let breaker = Breaker::new(Counts::default(), shared, config).unwrap();
    let breaker = Arc::new(breaker);
    let _ = breaker.resolve(request()).await;
    for _ in 0..50 {
        clock.advance(secs(15));
        let tries = (0..64).map(|_| {
            let breaker = Arc::clone(&breaker);
            tokio::spawn(async move { breaker.resolve(request()).await.is_err() })
        });
        for one in tries.collect::<Vec<_>>() {
            assert!(one.await.unwrap());
        }
    }
    assert_eq!(breaker.inner().1.load(Ordering::SeqCst), 1);
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let wrong: [fn(&mut BreakerConfig); 6] = [
        |config| config.failures = 0,
        |config| config.failures = 1_001,
        |config| config.first_open = Duration::ZERO,
        |config| config.first_open = secs(16),
        |config| config.longest_open = secs(16),
        |config| config.fair_time = secs(16),
    ];
    for wrong in wrong {
        let mut config = BreakerConfig::default();
        wrong(&mut config);
        let clock = Arc::new(ManualClock::new());
        let refused = Breaker::new(MockBackend::new(), clock, config).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{config:?}");
    }
}
