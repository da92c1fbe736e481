//! Batches: one slow name holds up neither the others nor their expiry and invalidation.

use super::*;
use crate::error::ErrorKind;
use crate::testing::{Gate, Reply};

#[tokio::test]
async fn a_slow_name_costs_a_batch_only_itself() {
    let bench = bench();
    bench.backend.set("slow/one", "s");
    bench.backend.script("slow/one", [Reply::Hang]);
    let deadline = bench.clock.now() + Duration::from_secs(2);
    let cache = Arc::clone(&bench.cache);
    let batch = tokio::spawn(async move {
        let names = [NAME, "slow/one"].map(|name| NameRef::parse(name).unwrap());
        let requests = names.map(|name| Request::new(name).with_deadline(deadline));
        cache.resolve_many(&requests).await
    });
    bench.backend.called(2).await;
    bench.waiting(1).await;
    bench.clock.advance(Duration::from_secs(2));
    let answers = batch.await.unwrap();
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_batch_answers_nothing_that_expired_while_it_waited() {
    let bench = bench();
    bench.backend.set_lease(NAME, Duration::from_secs(2));
    bench.text().await;
    let gate = Gate::new();
    bench.backend.set("slow/one", "s");
    bench.backend.script("slow/one", [gate.then(Reply::Stored)]);
    let cache = Arc::clone(&bench.cache);
    let batch = tokio::spawn(async move { cache.get_many(&[NAME, "slow/one"]).await });
    bench.backend.called(2).await;
    bench.waiting(1).await;
    bench.backend.set(NAME, "v2");
    bench.clock.advance(Duration::from_secs(2));
    gate.open();
    let answers = batch.await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn a_batch_answers_nothing_that_was_invalidated_while_it_waited() {
    let bench = bench();
    bench.text().await;
    let gate = Gate::new();
    bench.backend.set("slow/one", "s");
    bench.backend.script("slow/one", [gate.then(Reply::Stored)]);
    let cache = Arc::clone(&bench.cache);
    let batch = tokio::spawn(async move { cache.get_many(&[NAME, "slow/one"]).await });
    bench.backend.called(2).await;
    bench.waiting(1).await;
    bench.backend.set(NAME, "v2");
    bench.cache.invalidator().invalidate(NAME).unwrap();
    gate.open();
    let answers = batch.await.unwrap();
    let texts = answers
        .into_iter()
        .map(|answer| answer.unwrap().expose_str().unwrap().to_owned());
    assert_eq!(texts.collect::<Vec<_>>(), ["v2", "s"]);
}

#[tokio::test]
async fn a_batch_answers_no_absence_that_was_signalled_while_it_waited() {
    let bench = bench();
    bench.backend.set("slow/one", "x");
    let gate = Gate::new();
    bench.backend.script("slow/one", [gate.then(Reply::Stored)]);
    let names = ["late/one", "slow/one"];
    let mut batch = std::pin::pin!(bench.cache.get_many(&names));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(batch.as_mut().poll(&mut cx).is_pending());
    bench.backend.called(2).await;
    // The first has its answer; it is created while the second is waited for.
    while bench.cache.core.flying_now().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert!(batch.as_mut().poll(&mut cx).is_pending());
    bench.backend.set("late/one", "there");
    bench.cache.invalidator().invalidate("late/one").unwrap();
    gate.open();
    let answers = batch.await;
    assert_eq!(answers[0].as_ref().unwrap().expose_str().unwrap(), "there");
}

#[tokio::test]
async fn a_batch_keeps_what_no_signal_concerns_whether_it_is_held_or_not() {
    let config = CacheConfig {
        max_entries: 2,
        ..CacheConfig::default()
    };
    let bench = bench_with(config);
    let good: Vec<_> = (0..6).map(|number| format!("good/{number}")).collect();
    for name in &good {
        bench.backend.set(name, "x");
    }
    bench.backend.script("slow/one", [Reply::Hang]);
    let deadline = bench.clock.now() + Duration::from_secs(2);
    let cache = Arc::clone(&bench.cache);
    let names = [&good[..], &["no/such".to_owned(), "slow/one".to_owned()]].concat();
    let batch = tokio::spawn(async move {
        let version = crate::secret::Version::number(1);
        let names = names.iter().map(|name| NameRef::parse(name).unwrap());
        let requests = names.map(|name| Request::new(name).with_deadline(deadline));
        // And one exact version, which is never held.
        let exact = Request::new(NameRef::parse("good/0").unwrap()).with_version(&version);
        let requests: Vec<_> = requests.chain([exact.with_deadline(deadline)]).collect();
        cache.resolve_many(&requests).await
    });
    bench.backend.called(9).await;
    bench.waiting(1).await;
    // The batch takes the answer. Nothing shows when.
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
    let calls = bench.backend.calls();
    bench
        .cache
        .invalidator()
        .invalidate_prefix("other")
        .unwrap();
    bench.cache.invalidator().invalidate("other/one").unwrap();
    bench.clock.advance(Duration::from_secs(2));
    let kinds: Vec<_> = batch
        .await
        .unwrap()
        .into_iter()
        .map(|answer| answer.map_err(|error| error.kind()).err())
        .collect();
    let mut wanted = vec![None; 9];
    wanted[6] = Some(ErrorKind::NotFound);
    wanted[7] = Some(ErrorKind::Timeout);
    assert_eq!(kinds, wanted);
    assert_eq!(bench.backend.calls(), calls);
}

#[tokio::test]
async fn a_batch_answers_no_record_that_was_signalled_under_another_name_while_it_waited() {
    let (store, cache) = two_names();
    let gate = Gate::new();
    store.set("slow/one", "s");
    store.script("slow/one", [gate.then(Reply::Stored)]);
    cache.get("a/x").await.unwrap();
    let names = ["b/y", "slow/one"];
    let mut batch = std::pin::pin!(cache.get_many(&names));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(batch.as_mut().poll(&mut cx).is_pending());
    store.called(2).await;
    store.set("one/record", "v2");
    cache.invalidator().invalidate_prefix("a").unwrap();
    gate.open();
    let answers = batch.await;
    assert_eq!(answers[0].as_ref().unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn a_batch_answers_a_stale_value_that_the_policy_allows_and_asks_for_it_once() {
    let bench = bench_with(stale_up_to(TTL));
    bench.text().await;
    bench.backend.set("other/one", "x");
    bench.cache.get("other/one").await.unwrap();
    let calls = bench.backend.calls();
    bench.backend.always(Reply::Error(ErrorKind::Unavailable));
    bench.clock.advance(TTL);
    let names = [NAME, "other/one"];
    let batch = bench.cache.get_many(&names);
    let answers = tokio::time::timeout(Duration::from_secs(10), batch).await;
    for answer in answers.expect("a batch asks without end") {
        let secret = answer.unwrap();
        let freshness = secret.answer().freshness();
        assert!(matches!(freshness, crate::secret::Freshness::Stale { .. }));
    }
    assert_eq!(bench.backend.calls(), calls + 2);
}
