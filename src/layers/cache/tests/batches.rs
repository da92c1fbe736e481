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
    while bench.cache.flights.flying_now().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert!(batch.as_mut().poll(&mut cx).is_pending());
    bench.backend.set("late/one", "there");
    bench.cache.invalidator().invalidate("late/one").unwrap();
    gate.open();
    let answers = batch.await;
    assert_eq!(answers[0].as_ref().unwrap().expose_str().unwrap(), "there");
}
