//! A store that asks for a pause, or cannot answer well, is asked rarely, however often callers ask.

use std::time::Duration;

use secret_resolver::{ErrorKind, Resolver};

use crate::support::{Say, Store, now, pause, since, within};

const TIME: Duration = Duration::from_secs(3);

/// Fifty callers with pauses of 10 ms for 3 s; how many requests reach a store that says this.
async fn requests(say: Say, names: usize) -> usize {
    let store = Store::saying("store", say);
    let resolver = Resolver::builder(store.clone()).build().unwrap();
    // Until the store has answered for the first time, nobody knows what it says.
    assert!(resolver.get("a/0").await.is_err());
    let begun = now();
    let callers = (0..50_u64).map(|caller| {
        let resolver = resolver.clone();
        tokio::spawn(async move {
            // One after another, so that they do not ask in step.
            pause(10 * caller).await;
            for number in 0.. {
                let name = format!("a/{}", (caller as usize * 31 + number) % names);
                assert!(resolver.get(&name).await.is_err());
                if since(begun) >= TIME {
                    break;
                }
                pause(10).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        within(2 * TIME + Duration::from_secs(5), caller)
            .await
            .unwrap();
    }
    store.asked()
}

#[tokio::test]
async fn a_store_that_asks_to_be_left_alone_is_left_alone_by_fifty_callers() {
    let throttled = || Say::Throttled(Duration::from_secs(10));
    let (one, many) = tokio::join!(requests(throttled(), 1), requests(throttled(), 1000));
    assert!(
        one <= 5 && many <= 10,
        "{one} requests for one name, {many} for many"
    );
}

/// What is not an outage and is not about one secret either, and comes again whenever it is asked.
const LASTING: [ErrorKind; 3] = [
    ErrorKind::Malformed,
    ErrorKind::Refused,
    ErrorKind::Unauthenticated,
];

#[tokio::test]
async fn an_error_that_would_come_again_is_asked_for_a_few_times_a_second_for_one_name() {
    let [a, b, c] = LASTING.map(|kind| requests(Say::Error(kind), 1));
    let asked = tokio::join!(a, b, c);
    let asked = [asked.0, asked.1, asked.2];
    assert!(
        asked.iter().all(|asked| *asked <= 15),
        "{asked:?} of {LASTING:?}"
    );
}

#[tokio::test]
async fn an_error_that_would_come_again_is_asked_for_a_few_times_a_second_for_many_names() {
    let [a, b, c] = LASTING.map(|kind| requests(Say::Error(kind), 1000));
    let asked = tokio::join!(a, b, c);
    let asked = [asked.0, asked.1, asked.2];
    assert!(
        asked.iter().all(|asked| *asked <= 30),
        "{asked:?} of {LASTING:?}"
    );
}
