//! Useless answers that repeat: they back off, each for its own name.

use super::*;
use crate::error::{Error, ErrorKind};
use crate::testing::Reply;

const NO_GOOD: [ErrorKind; 4] = [
    ErrorKind::Malformed,
    ErrorKind::Refused,
    ErrorKind::Unauthenticated,
    ErrorKind::Throttled,
];

#[tokio::test]
async fn an_answer_that_is_no_good_is_asked_for_again_less_and_less_often() {
    for kind in NO_GOOD {
        let bench = bench();
        bench.backend.always(Reply::Error(kind));
        let mut each_second = Vec::new();
        for _ in 0..20 {
            let before = bench.backend.calls();
            for _ in 0..100 {
                assert_eq!(bench.get().await.unwrap_err().kind(), kind);
                bench.clock.advance(Duration::from_millis(10));
            }
            each_second.push(bench.backend.calls() - before);
        }
        assert!(
            each_second.iter().all(|&calls| calls <= 6),
            "{each_second:?}"
        );
        assert!(
            each_second[10..].iter().sum::<usize>() <= 3,
            "{each_second:?}"
        );
        // Good again: known at the latest when the last back-off is over, and all is forgotten.
        bench.backend.always(None);
        bench.clock.advance(Duration::from_secs(5));
        assert_eq!(bench.text().await, "v1");
        bench.cache.invalidator().invalidate(NAME).unwrap();
        bench.backend.script(NAME, [Reply::Error(kind)]);
        assert_eq!(bench.get().await.unwrap_err().kind(), kind);
        assert_eq!(bench.text().await, "v1");
    }
}

#[tokio::test]
async fn one_name_that_is_no_good_takes_nothing_from_another() {
    let bench = bench();
    let bad = [ErrorKind::Malformed; 50].map(Reply::Error);
    bench.backend.script("bad/one", bad);
    for number in 0..50 {
        assert!(bench.cache.get("bad/one").await.is_err());
        let name = format!("good/{number}");
        bench.backend.set(&name, "x");
        bench.cache.get(&name).await.unwrap();
    }
    assert_eq!(bench.backend.calls_of("bad/one"), 2);
}

#[tokio::test]
async fn an_outage_is_asked_for_again_at_once_for_breakers_decide_there() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
        let bench = bench();
        bench.backend.always(Reply::Error(kind));
        for number in 1..5 {
            assert_eq!(bench.get().await.unwrap_err().kind(), kind);
            assert_eq!(bench.backend.calls(), number);
        }
    }
}

/// Throttles, with a wish.
#[derive(Debug)]
struct Throttles(std::sync::atomic::AtomicUsize, Duration);

impl SecretResolver for Throttles {
    fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let error = Error::new(ErrorKind::Throttled, "slow down").with_backend("throttles");
        ResolveFuture::ready(Err(error.with_retry_after(self.1)))
    }
}

#[tokio::test]
async fn a_name_is_left_alone_for_as_long_as_the_store_asks_and_no_longer_than_a_minute() {
    for (asked, kept) in [(10, 10), (100_000_000, 60)] {
        let clock = ManualClock::strict();
        let store = Arc::new(Throttles(Default::default(), Duration::from_secs(asked)));
        let calls = || store.0.load(std::sync::atomic::Ordering::Relaxed);
        let config = CacheConfig::default();
        let cache = Cache::new(Arc::clone(&store), Arc::new(clock.clone()), config).unwrap();
        for second in 0..kept {
            let error = cache.get(NAME).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Throttled);
            assert_eq!(calls(), 1, "after {second} s");
            clock.advance(Duration::from_secs(1));
        }
        assert!(cache.get(NAME).await.is_err());
        assert_eq!(calls(), 2);
    }
}
