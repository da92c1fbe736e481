//! Handles: one job for all, woken by each landing and by nothing else.

use super::*;
use crate::error::ErrorKind;
use crate::layers::cache::slot::Slot;
use crate::name::SecretName;
use crate::secret::Version;
use crate::testing::{Gate, Reply};

fn handle(bench: &Bench) -> SecretHandle {
    bench
        .cache
        .handle(
            SecretName::parse(NAME).unwrap(),
            NameRef::parse(NAME).unwrap(),
        )
        .unwrap()
}

/// Lets the jobs on the driver do what is due: a fetch that is queued behind them is done.
async fn settle(bench: &Bench) {
    for number in 0..3 {
        let name = format!("settle/{}/{number}", bench.backend.calls());
        bench.backend.set(&name, "x");
        bench.cache.get(&name).await.unwrap();
    }
}

#[tokio::test]
async fn every_landing_is_heard_however_it_was_asked_for() {
    let bench = bench();
    bench.text().await;
    let mut handle = handle(&bench).seen().await.unwrap();
    let waiting = tokio::spawn(async move {
        handle.changed().await.unwrap();
        handle
    });
    // It waits before the value lands: a value that is there already needs no wake-up. What its
    // beginning woke is over.
    tokio::task::yield_now().await;
    settle(&bench).await;
    bench.backend.set(NAME, "v2");
    // A caller that learns of it before the handle does.
    let (name, second) = (NameRef::parse(NAME).unwrap(), Version::number(2));
    let newer = bench.cache.resolve(Request::new(name).at_least(&second));
    newer.await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(10), waiting);
    let handle = woken.await.expect("nothing woke the handle").unwrap();
    assert_eq!(handle.secret().unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn a_thousand_handles_are_one_fetch_a_refresh() {
    let bench = bench();
    bench.text().await;
    let handles: Vec<_> = (0..1000).map(|_| handle(&bench)).collect();
    settle(&bench).await;
    assert_eq!(bench.backend.calls_of(NAME), 1);
    bench.clock.advance(TTL * 85 / 100);
    for handle in &handles {
        handle.secret().unwrap();
    }
    settle(&bench).await;
    assert_eq!(bench.backend.calls_of(NAME), 2);
}

#[tokio::test]
async fn a_handle_fetches_at_the_very_moment_at_which_its_value_is_due() {
    let bench = bench();
    bench.text().await;
    let _handle = handle(&bench);
    settle(&bench).await;
    let due = bench.cache.core.keeper.due_at("prod/db");
    let slot = bench.cache.core.store.at("prod/db").unwrap();
    assert_eq!(due, slot.life.refresh);
    let calls = bench.backend.calls();
    bench.clock.advance(due.since(bench.clock.now()));
    let asked = tokio::time::timeout(Duration::from_secs(10), bench.backend.called(calls + 1));
    asked.await.expect("the handle fetches later");
}

#[tokio::test]
async fn a_handle_shows_nothing_of_its_value() {
    let bench = bench();
    bench.text().await;
    assert_eq!(format!("{:?}", handle(&bench)), "SecretHandle { .. }");
}

/// How often a handle asks in a second for a record with such a short lease.
async fn asked_in_a_second(lease: Duration, each_millisecond: impl Fn(&SecretHandle)) -> usize {
    let bench = bench();
    bench.backend.set_lease(NAME, lease);
    bench.text().await;
    let handle = handle(&bench);
    bench.cache.invalidator().invalidate(NAME).unwrap();
    settle(&bench).await;
    let before = bench.backend.calls_of(NAME);
    for _ in 0..1000 {
        each_millisecond(&handle);
        bench.clock.advance(Duration::from_millis(1));
        tokio::task::yield_now().await;
        std::thread::sleep(Duration::from_micros(200));
    }
    settle(&bench).await;
    bench.backend.calls_of(NAME) - before
}

#[tokio::test]
async fn a_handle_asks_a_few_times_a_second_however_short_a_lease_is() {
    let asked = asked_in_a_second(Duration::from_millis(1), |_| {}).await;
    assert!((1..=5).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_handle_that_is_read_often_asks_no_more_often() {
    let lease = Duration::from_millis(100);
    let asked = asked_in_a_second(lease, |handle| drop(handle.secret())).await;
    assert!((1..=5).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_handle_may_wait_for_the_value_that_an_invalidation_has_taken() {
    let bench = bench();
    bench.text().await;
    let handle = handle(&bench);
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    bench.cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(handle.secret().unwrap_err().kind(), ErrorKind::Unavailable);
    bench.backend.called(2).await;
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.current().await }
    });
    tokio::task::yield_now().await;
    gate.open();
    let secret = waiting.await.unwrap().unwrap();
    assert_eq!(secret.expose_str().unwrap(), "v1");
    // It ends, too.
    bench.backend.script(NAME, [Reply::Hang]);
    bench.cache.invalidator().invalidate(NAME).unwrap();
    bench.backend.called(3).await;
    let waiting = tokio::spawn(async move { handle.current().await });
    while bench.clock.next_wake() > Some(bench.clock.now() + Duration::from_secs(5)) {
        tokio::task::yield_now().await;
    }
    bench.clock.advance(Duration::from_secs(5));
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.name(), Some(&SecretName::parse(NAME).unwrap()));
}

/// Blocks the thread that asks it, once, until its sender is dropped.
#[derive(Debug)]
struct Blocks {
    store: MockBackend,
    until: std::sync::Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    begun: std::sync::mpsc::Sender<()>,
}

impl SecretResolver for Blocks {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let until = crate::sync::lock(&self.until).take();
        if let Some(until) = until {
            let _ = self.begun.send(());
            let _ = until.recv();
        }
        self.store.resolve(request)
    }
}

#[tokio::test]
async fn who_waits_for_a_handles_value_waits_a_second_longer_than_a_fetch_may_take() {
    let clock = ManualClock::strict();
    let (begun, begins) = std::sync::mpsc::channel();
    let store = Arc::new(Blocks {
        store: MockBackend::new().with_value(NAME, "v1"),
        until: std::sync::Mutex::default(),
        begun,
    });
    let config = CacheConfig::default();
    let budget = config.flight_budget;
    let cache = Cache::new(Arc::clone(&store), Arc::new(clock.clone()), config).unwrap();
    let (name, shown) = (
        SecretName::parse(NAME).unwrap(),
        NameRef::parse(NAME).unwrap(),
    );
    cache.get(NAME).await.unwrap();
    let handle = cache.handle(name, shown).unwrap();
    let (release, until) = std::sync::mpsc::channel();
    *crate::sync::lock(&store.until) = Some(until);
    cache.invalidator().invalidate(NAME).unwrap();
    begins.recv_timeout(Duration::from_secs(10)).unwrap();
    // Its thread is blocked, so the fetch cannot say that its time is over.
    let mut current = Box::pin(handle.current());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(current.as_mut().poll(&mut cx).is_pending());
    clock.advance(budget);
    assert!(current.as_mut().poll(&mut cx).is_pending());
    clock.advance(Duration::from_secs(1));
    let answer = current.await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    drop(release);
}

#[tokio::test]
async fn in_an_outage_a_handle_asks_less_and_less_often() {
    let bench = bench();
    bench.text().await;
    let handle = handle(&bench);
    bench.backend.always(Reply::Error(ErrorKind::Unavailable));
    bench.cache.invalidator().invalidate(NAME).unwrap();
    let address = NameRef::parse(NAME).unwrap().path();
    let keeper = &bench.cache.core.keeper;
    for (calls, wait) in [(2, 1), (3, 2), (4, 4), (5, 8), (6, 15), (7, 15), (8, 15)] {
        bench.backend.called(calls).await;
        let wait = Duration::from_secs(wait);
        let failed = || {
            let error = handle.secret().unwrap_err();
            error.backend() == Some("mock") && keeper.due_at(address) == bench.clock.now() + wait
        };
        while !failed() {
            tokio::task::yield_now().await;
        }
        if calls == 8 {
            bench.backend.always(None);
        }
        bench.clock.advance(wait);
    }
    while handle.secret().is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_last_handle_ends_what_its_record_was_kept_for() {
    let bench = bench();
    bench.text().await;
    let (one, other) = (handle(&bench), handle(&bench));
    drop(one);
    bench.clock.advance(TTL * 85 / 100);
    bench.backend.called(2).await;
    drop(other);
    settle(&bench).await;
    let calls = bench.backend.calls_of(NAME);
    bench.clock.advance(TTL * 2);
    settle(&bench).await;
    assert_eq!(bench.backend.calls_of(NAME), calls);
}

#[tokio::test]
async fn a_handle_goes_on_when_its_record_is_signalled_under_another_name() {
    let (store, cache) = two_names();
    cache.get("a/x").await.unwrap();
    let handle = cache
        .handle(
            SecretName::parse("a/x").unwrap(),
            NameRef::parse("a/x").unwrap(),
        )
        .unwrap();
    let mut handle = handle.seen().await.unwrap();
    cache.get("b/y").await.unwrap();
    store.set("one/record", "v2");
    cache.invalidator().invalidate_prefix("b").unwrap();
    handle.changed().await.unwrap();
    assert_eq!(handle.secret().unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn a_handle_under_another_name_has_a_value_again_after_a_signal_for_that_name() {
    let (_, cache) = two_names();
    let handle = |name| {
        cache
            .handle(
                SecretName::parse(name).unwrap(),
                NameRef::parse(name).unwrap(),
            )
            .unwrap()
    };
    cache.get("a/x").await.unwrap();
    let first = handle("a/x").seen().await.unwrap();
    let second = handle("b/y").seen().await.unwrap();
    // From here on the record is known under the first name alone.
    cache.invalidator().invalidate("a/x").unwrap();
    first.current().await.unwrap();
    cache.invalidator().invalidate_prefix("b").unwrap();
    second.current().await.unwrap();
    assert_eq!(second.secret().unwrap().expose_str().unwrap(), "v1");
    first.current().await.unwrap();
}

#[tokio::test]
async fn a_signal_right_after_its_first_value_does_not_fail_a_handle() {
    let bench = bench();
    bench.text().await;
    let handle = handle(&bench);
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    bench.cache.invalidator().invalidate(NAME).unwrap();
    let mut seen = Box::pin(handle.seen());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(seen.as_mut().poll(&mut cx).is_pending());
    gate.open();
    seen.await.unwrap();
}

#[tokio::test]
async fn a_signal_between_a_landing_and_its_news_is_not_forgotten() {
    let bench = bench();
    bench.text().await;
    let core = &bench.cache.core;
    let (keeper, now) = (&core.keeper, bench.clock.now());
    let located = core.inner.locate(NameRef::parse(NAME).unwrap());
    let address = located.address().as_str();
    // Without a handle there is no job that fetches in the middle of this.
    let _news = keeper.keep(address, &SecretName::parse(NAME).unwrap());
    let landed = |slot: &Slot, concerned: bool| {
        keeper.landed(slot, |_| concerned);
        keeper.due_at(address) == now
    };
    let name = NameRef::parse(NAME).unwrap();
    let slot = core.slot_of(&located, name).unwrap();
    assert!(!landed(&slot, false));
    // A prefix: the value stays where it is, for its other names.
    assert!(landed(&slot, true));
    // An invalidation: the value is gone.
    bench.cache.invalidator().invalidate(NAME).unwrap();
    assert!(landed(&slot, false));
    let error = Error::new(ErrorKind::Unavailable, "of the test's own making");
    keeper.failed(address, &error, || false);
    assert!(keeper.due_at(address) > now);
    keeper.failed(address, &error, || true);
    assert_eq!(keeper.due_at(address), now);
}

#[tokio::test]
async fn another_handle_on_a_name_leaves_its_back_off_alone() {
    let bench = bench();
    bench.text().await;
    let first = handle(&bench);
    bench.backend.always(Reply::Error(ErrorKind::Unavailable));
    bench.cache.invalidator().invalidate(NAME).unwrap();
    while first.secret().unwrap_err().backend().is_none() {
        tokio::task::yield_now().await;
    }
    let calls = bench.backend.calls_of(NAME);
    let due = bench.cache.core.keeper.due_at("prod/db");
    let _others: Vec<_> = (0..10).map(|_| handle(&bench)).collect();
    // Once a fetch that was queued behind the job has failed, too, the job is done.
    bench.cache.get("other/name").await.unwrap_err();
    assert_eq!(bench.backend.calls_of(NAME), calls);
    assert_eq!(bench.cache.core.keeper.due_at("prod/db"), due);
}

#[tokio::test]
async fn a_waker_that_panics_costs_no_other_handle_and_no_other_get_its_news() {
    use std::task::{Context, Wake, Waker};
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("of the test's own making");
        }
    }
    let bench = bench();
    bench.text().await;
    let mut handles = Vec::new();
    for _ in 0..40 {
        handles.push(handle(&bench).seen().await.unwrap());
    }
    let gate = Gate::new();
    bench.backend.set(NAME, "v2");
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    bench.cache.invalidator().invalidate(NAME).unwrap();
    bench.backend.called(2).await;
    let panics = Waker::from(Arc::new(Panics));
    let mut spoilt = handle(&bench);
    let mut changed = Box::pin(spoilt.changed());
    let mut get = Box::pin(bench.get());
    assert!(
        changed
            .as_mut()
            .poll(&mut Context::from_waker(&panics))
            .is_pending()
    );
    assert!(
        get.as_mut()
            .poll(&mut Context::from_waker(&panics))
            .is_pending()
    );
    let gets: Vec<_> = (0..40).map(|_| bench.spawn_get()).collect();
    let changes = handles
        .into_iter()
        .map(|mut handle| tokio::spawn(async move { handle.changed().await.map(|()| handle) }));
    let changes: Vec<_> = changes.collect();
    bench.waiting(41).await;
    gate.open();
    for get in gets {
        assert_eq!(get.await.unwrap().unwrap().expose_str().unwrap(), "v2");
    }
    let mut handles = Vec::new();
    for change in changes {
        handles.push(change.await.unwrap().unwrap());
    }
    // And at the end, too.
    drop(get);
    let mut spoilt = handle(&bench).seen().await.unwrap();
    let mut changed = Box::pin(spoilt.changed());
    assert!(
        changed
            .as_mut()
            .poll(&mut Context::from_waker(&panics))
            .is_pending()
    );
    bench.cache.shutdown(bench.clock.now()).await;
    for mut handle in handles {
        let closed = handle.changed().await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn a_record_is_exempt_from_eviction_until_its_last_handle_is_dropped() {
    let config = CacheConfig {
        max_entries: 4,
        ..CacheConfig::default()
    };
    let bench = bench_with(config);
    bench.text().await;
    let others = async |from: usize| {
        for number in from..from + 20 {
            let name = format!("other/{number}");
            bench.backend.set(&name, "x");
            // Read twice, so that not each makes room for the next.
            bench.cache.get(&name).await.unwrap();
            bench.cache.get(&name).await.unwrap();
        }
    };
    let (one, other) = (handle(&bench), handle(&bench));
    let clone = other.clone();
    drop(one);
    others(0).await;
    drop(other);
    others(100).await;
    let held = || bench.cache.core.store.at("prod/db").is_some();
    assert!(held());
    assert_eq!(clone.secret().unwrap().expose_str().unwrap(), "v1");
    assert_eq!(bench.backend.calls_of(NAME), 1);
    drop(clone);
    others(200).await;
    assert!(!held());
}
