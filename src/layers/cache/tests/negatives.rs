//! Refusals that are remembered for a while: of what is not there, and of what is denied.

use super::*;
use crate::error::ErrorKind;
use crate::testing::Reply;

#[tokio::test]
async fn what_is_not_there_is_asked_for_once_in_five_seconds() {
    let bench = bench();
    for kind in [ErrorKind::NotFound, ErrorKind::Denied] {
        let before = bench.backend.calls();
        bench.backend.always(Reply::Error(kind));
        for _ in 0..100 {
            assert_eq!(bench.cache.get("no/such").await.unwrap_err().kind(), kind);
        }
        assert_eq!(bench.backend.calls(), before + 1);
        bench.clock.advance(Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_refusal_is_forgotten_by_invalidation_and_by_a_new_login() {
    let bench = bench();
    assert!(bench.cache.get("new/one").await.is_err());
    bench.backend.set("new/one", "x");
    assert!(bench.cache.get("new/one").await.is_err());
    bench.cache.invalidator().invalidate("new/one").unwrap();
    assert!(bench.cache.get("new/one").await.is_ok());

    assert!(bench.cache.get("new/two").await.is_err());
    bench.backend.set("new/two", "x");
    bench.backend.set_identity(1);
    assert!(bench.cache.get("new/two").await.is_ok());
}

#[tokio::test]
async fn names_that_do_not_exist_displace_nothing_and_are_bounded() {
    let bench = bench();
    bench.text().await;
    for number in 0..10_000 {
        let missing = bench.cache.get(&format!("flood/{number}")).await;
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let calls = bench.backend.calls();
    assert_eq!(bench.text().await, "v1");
    assert_eq!(bench.backend.calls(), calls);
    assert!(bench.cache.flights.lock().negatives.len() <= 4096);
}
