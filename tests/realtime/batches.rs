//! Batches: each name ends on its own, and a large one leaves others their turn.

use std::time::Duration;

use secret_resolver::{ErrorKind, Resolver};

use crate::support::{Say, Store, ms, now, pause, since, within};

#[tokio::test]
async fn a_signal_for_strangers_while_one_name_hangs_costs_a_batch_no_other_name() {
    let store = Store::new("store");
    store.script(|name| match name {
        "hangs" => Say::Hang,
        _ => Say::Value,
    });
    let resolver = Resolver::builder(store)
        .with_deadline(Duration::from_secs(2))
        .build()
        .unwrap();
    let mut names: Vec<String> = (0..10).map(|number| format!("warm/{number}")).collect();
    for answer in resolver.get_many(&names).await {
        answer.unwrap();
    }
    names.insert(5, "hangs".to_owned());
    let signal = tokio::spawn({
        let invalidator = resolver.invalidator();
        async move {
            pause(500).await;
            invalidator.invalidate_prefix("quite/other").unwrap();
        }
    });
    let asked = now();
    let answers = within(Duration::from_secs(8), resolver.get_many(&names)).await;
    let took = since(asked);
    signal.await.unwrap();
    let kinds = answers
        .iter()
        .map(|answer| answer.as_ref().err().map(|error| error.kind()));
    let kinds: Vec<_> = kinds.collect();
    let mut right = vec![None; 11];
    right[5] = Some(ErrorKind::Timeout);
    assert_eq!(kinds, right, "after {took:?}");
    assert!(took < ms(2500), "after {took:?}");
}

#[tokio::test]
async fn a_batch_of_a_hundred_thousand_names_ends_in_time_and_leaves_others_their_turn() {
    let resolver = Resolver::builder(Store::new("store")).build().unwrap();
    let names: Vec<String> = (0..100_000)
        .map(|number| format!("cold/{number}"))
        .collect();
    let batch = tokio::spawn({
        let resolver = resolver.clone();
        async move {
            let asked = now();
            let answers = resolver.get_many(&names).await;
            (
                since(asked),
                answers.iter().filter(|answer| answer.is_ok()).count(),
            )
        }
    });
    // On the same thread as the batch.
    let (mut turns, mut last) = (Vec::new(), now());
    while !batch.is_finished() {
        pause(1).await;
        turns.push(since(last));
        last = now();
    }
    let (took, answered) = batch.await.unwrap();
    // The machine may stand still for a moment, so one turn in a hundred may come later, within limits.
    turns.sort_unstable();
    let (usual, worst) = (turns[turns.len() * 99 / 100], turns[turns.len() - 1]);
    let seen = format!("{answered} answered after {took:?}, a turn each {usual:?}, or {worst:?}");
    assert!(took < ms(6000), "{seen}");
    assert!(usual < ms(250) && worst < ms(1000), "{seen}");
    assert!(answered > 0, "{seen}");
}
