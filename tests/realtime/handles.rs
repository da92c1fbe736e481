//! Handles learn of their own value, whatever brought it, and cost nothing while nothing happens.

use std::time::Duration;

use secret_resolver::backend::{NameRef, Request};
use secret_resolver::{Resolver, SecretResolver, Version};

use crate::support::{Store, in_a_process, ms, now, pause, since, version_of, within};

/// How long after the store answered version 2 a handle has learned of it, when `bring` makes another
/// caller fetch it.
async fn learns_of_it_after<F>(ttl: Duration, bring: impl FnOnce(Resolver, Store) -> F) -> Duration
where
    F: Future<Output = ()>,
{
    let store = Store::new("store");
    let builder = Resolver::builder(store.clone()).with_ttl(ttl);
    let resolver = builder.build().unwrap();
    let mut handle = resolver.handle("a/x").await.unwrap();
    bring(resolver.clone(), store.clone()).await;
    let learned = async {
        loop {
            handle.changed().await.unwrap();
            if handle.secret().is_ok_and(|secret| version_of(&secret) == 2) {
                break now();
            }
        }
    };
    let learned = within(Duration::from_secs(10), learned).await;
    let calls = store.calls();
    let call = calls.iter().find(|call| call.version == 2).unwrap();
    learned.since(call.answered.unwrap().0)
}

const LONG: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_handle_learns_of_a_value_that_another_callers_get_has_brought() {
    let took = learns_of_it_after(LONG, async |resolver: Resolver, store: Store| {
        store.rotate("a/x");
        resolver.invalidator().invalidate("a/x").unwrap();
        resolver.get("a/x").await.unwrap();
    });
    let took = took.await;
    assert!(took < ms(1200), "after {took:?}");
}

#[tokio::test]
async fn a_handle_learns_of_a_value_that_another_caller_has_asked_for_by_its_version() {
    let took = learns_of_it_after(LONG, async |resolver: Resolver, store: Store| {
        store.rotate("a/x");
        let name = NameRef::parse("a/x").unwrap();
        let second = Version::number(2);
        let request = Request::new(name).at_least(&second);
        resolver.resolve(request).await.unwrap();
    });
    let took = took.await;
    assert!(took < ms(1200), "after {took:?}");
}

#[tokio::test]
async fn a_handle_learns_of_a_value_that_a_refresh_has_brought() {
    let took = learns_of_it_after(ms(2000), async |resolver: Resolver, store: Store| {
        store.rotate("a/x");
        // Another caller's hits, one of which begins the refresh.
        while !store.calls().iter().any(|call| call.version == 2) {
            let _ = resolver.get("a/x").await;
            pause(1).await;
        }
    });
    let took = took.await;
    assert!(took < ms(1200), "after {took:?}");
}

#[tokio::test]
async fn a_thousand_handles_on_one_name_make_one_request_a_refresh() {
    let store = Store::new("store");
    let builder = Resolver::builder(store.clone()).with_ttl(Duration::from_secs(1));
    let resolver = builder.build().unwrap();
    let mut handles = Vec::new();
    for _ in 0..1000 {
        handles.push(resolver.handle("a/x").await.unwrap());
    }
    let (begun, before) = (now(), store.asked());
    pause(4000).await;
    let (time, asked) = (since(begun), store.asked() - before);
    // A refresh that is late on a busy machine may just now have left them without a value.
    within(Duration::from_secs(5), async {
        while !handles.iter().all(|handle| handle.secret().is_ok()) {
            pause(10).await;
        }
    })
    .await;
    // A life is at least nine tenths of the time to live, and a refresh comes in its last fifth.
    let most = time.as_millis() / 720 + 2;
    assert!(asked as u128 <= most, "{asked} requests in {time:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_right_after_a_landing_does_not_leave_a_handle_without_a_value() {
    let store = Store::new("store");
    let builder = Resolver::builder(store.clone()).with_ttl(LONG);
    let resolver = builder.build().unwrap();
    let handle = resolver.handle("a/x").await.unwrap();
    let invalidator = resolver.invalidator();
    let begun = now();
    for round in 0..20_000 {
        if since(begun) > ms(5000) {
            break;
        }
        let signal = || match round % 2 {
            0 => invalidator.invalidate("a/x").unwrap(),
            _ => invalidator.invalidate_prefix("a").unwrap(),
        };
        signal();
        // The value is there before the keeper has learned of its landing.
        while handle.secret().is_err() && since(begun) < ms(10_000) {
            std::hint::spin_loop();
        }
        signal();
        let signalled = now();
        within(Duration::from_secs(10), handle.current())
            .await
            .unwrap();
        assert!(since(signalled) < ms(900), "round {round}");
    }
}

/// The processor time that this process has used.
fn processor_time() -> Duration {
    // In ticks of a hundredth of a second; the name before may hold anything but a parenthesis.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks = fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap());
    ms(10 * ticks.sum::<u64>())
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn the_processor_time_of_two_thousand_handles_among_strangers() {
    let resolver = Resolver::builder(Store::new("store")).build().unwrap();
    let mut handles = Vec::new();
    for number in 0..2000 {
        handles.push(resolver.handle(&format!("handle/{number}")).await.unwrap());
    }
    let invalidator = resolver.invalidator();
    let (begun, before) = (now(), processor_time());
    for number in 0..150 {
        match number % 2 {
            0 => invalidator.invalidate("quite/other").unwrap(),
            _ => invalidator.invalidate_prefix("quite/other").unwrap(),
        };
        pause(20).await;
    }
    let (used, time) = (processor_time() - before, since(begun));
    assert!(handles.iter().all(|handle| handle.secret().is_ok()));
    assert!(used < time * 3 / 10, "{used:?} of {time:?}");
}

#[test]
fn two_thousand_handles_cost_little_while_strangers_are_signalled() {
    in_a_process(
        "handles::the_processor_time_of_two_thousand_handles_among_strangers",
        Duration::from_secs(30),
    );
}
