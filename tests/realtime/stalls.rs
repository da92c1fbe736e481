//! A store that blocks its poll stalls a thread of ours: that is not an outage of another store.

use std::time::Duration;

use secret_resolver::{Answer, ErrorKind, Freshness, Resolver};

use crate::support::{Say, Store, ms, now, pause, since, within, worst_and_middle};

#[tokio::test]
async fn a_store_that_blocks_its_poll_costs_another_neither_answers_nor_time() {
    let blocking = Store::saying("blocking", Say::Block(Duration::from_secs(3)));
    // It takes a moment, so that stalls begin while it is asked.
    let healthy = Store::saying("healthy", Say::Value.after(ms(30)));
    let resolver = Resolver::builder(healthy)
        .with_route("a", blocking)
        .dangerous_fallback_to(Store::new("fallback"))
        .build()
        .unwrap();
    let stalls = tokio::spawn({
        let resolver = resolver.clone();
        async move {
            for number in 0.. {
                let _ = resolver.get(&format!("a/{number}")).await;
            }
        }
    });
    let gets = (0..400).map(|number| {
        let resolver = resolver.clone();
        tokio::spawn(async move {
            pause(20 * number).await;
            let asked = now();
            let answer = resolver.get(&format!("b/{number}")).await;
            (answer.map(|secret| secret.answer()), since(asked))
        })
    });
    let (mut times, mut failed, mut by_fallback) = (Vec::new(), 0, 0);
    for get in gets.collect::<Vec<_>>() {
        let (answer, took) = get.await.unwrap();
        times.push(took);
        match answer.map(Answer::freshness) {
            Ok(Freshness::Fallback) => by_fallback += 1,
            Ok(_) => {}
            Err(_) => failed += 1,
        }
    }
    stalls.abort();
    let (worst, middle) = worst_and_middle(times);
    let seen = format!("{failed} failed, {by_fallback} by fallback, {worst:?}, {middle:?}");
    assert_eq!((failed, by_fallback), (0, 0), "{seen}");
    assert!(worst < ms(1000) && middle < ms(200), "{seen}");
}

#[tokio::test]
async fn a_stale_value_is_served_in_an_outage_while_a_neighbour_blocks() {
    let blocking = Store::saying("blocking", Say::Block(Duration::from_secs(7)));
    let store = Store::new("store");
    let resolver = Resolver::builder(store.clone())
        .with_route("a", blocking.clone())
        .with_ttl(Duration::from_secs(1))
        .serve_stale_up_to(Duration::from_secs(3600))
        .build()
        .unwrap();
    resolver.get("b/x").await.unwrap();
    pause(1100).await;
    store.says(Say::Error(ErrorKind::Unavailable));
    let stall = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.get("a/x").await.map(drop) }
    });
    while blocking.asked() == 0 {
        pause(5).await;
    }
    let asked = now();
    let answer = within(Duration::from_secs(9), resolver.get("b/x")).await;
    let took = since(asked);
    stall.abort();
    let freshness = answer.map(|secret| secret.answer().freshness());
    let stale = matches!(freshness, Ok(Freshness::Stale { .. }));
    assert!(stale && took < ms(5500), "{freshness:?} after {took:?}");
}
