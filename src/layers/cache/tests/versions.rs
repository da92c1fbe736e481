//! Versions: the one that is asked for, the least that is accepted, and one that goes back.

use super::*;
use crate::error::ErrorKind;
use crate::secret::Version;

#[tokio::test]
async fn one_exact_version_is_read_past_the_cache() {
    let bench = bench();
    bench.text().await;
    let name = NameRef::parse(NAME).unwrap();
    let version = Version::number(1);
    bench
        .cache
        .resolve(Request::new(name).with_version(&version))
        .await
        .unwrap();
    assert_eq!(bench.backend.calls(), 2);
}

#[tokio::test]
async fn a_higher_version_asked_for_is_fetched_and_a_lower_one_is_not_answered() {
    let bench = bench();
    bench.text().await;
    bench.backend.set(NAME, "v2");
    let name = NameRef::parse(NAME).unwrap();
    let floor = Version::number(2);
    let record = bench
        .cache
        .resolve(Request::new(name).at_least(&floor))
        .await
        .unwrap();
    assert_eq!(record.into_secret().unwrap().expose_str().unwrap(), "v2");
    let floor = Version::number(3);
    let error = bench
        .cache
        .resolve(Request::new(name).at_least(&floor))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_signal_with_a_version_refuses_everything_below_it() {
    let bench = bench();
    bench.text().await;
    let invalidator = bench.cache.invalidator();
    invalidator
        .invalidate_below_version(NAME, &Version::number(2))
        .unwrap();
    // The store has not committed yet.
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    bench.backend.set(NAME, "v2");
    assert_eq!(bench.text().await, "v2");
}

#[tokio::test]
async fn a_version_that_was_rolled_back_is_refused_until_it_counts_as_a_new_life() {
    let bench = bench();
    bench.backend.set_version(NAME, 7);
    bench.text().await;
    // The value has long expired and was dropped; the version is still known.
    bench.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(bench.cache.core.values(), 0);
    bench.backend.set_version(NAME, 3);
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    bench.clock.advance(Duration::from_secs(9));
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.get().await.unwrap().version(), &Version::number(3));
}

#[tokio::test]
async fn a_restore_on_purpose_is_made_known_by_forgetting_the_version() {
    let bench = bench();
    bench.backend.set_version(NAME, 7);
    bench.text().await;
    bench.backend.set_version(NAME, 3);
    let invalidator = bench.cache.invalidator();
    invalidator.invalidate(NAME).unwrap();
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    invalidator.forget_version(NAME).unwrap();
    assert_eq!(bench.get().await.unwrap().version(), &Version::number(3));
}

/// Two endpoints, of which one is behind: the versions are answered in this order.
#[derive(Debug)]
struct Behind(std::sync::Mutex<Vec<u64>>);

impl SecretResolver for Behind {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let version = crate::sync::lock(&self.0).remove(0);
        let value = crate::secret::SecretBuf::from_slice(&version.to_be_bytes()).unwrap();
        let record = Record::builder("behind").version(Version::number(version));
        let record = record.field("password", value).build().unwrap();
        ResolveFuture::ready(request.admit(record.select(request.name().field())))
    }

    fn endpoints(&self) -> usize {
        2
    }
}

#[tokio::test]
async fn an_endpoint_that_is_behind_is_passed_over_for_the_next() {
    let store = Behind(std::sync::Mutex::new(vec![7, 3, 8, 5, 6]));
    let clock = Arc::new(ManualClock::strict());
    let cache = Cache::new(store, clock, CacheConfig::default()).unwrap();
    assert_eq!(
        cache.get(NAME).await.unwrap().version(),
        &Version::number(7)
    );
    cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(
        cache.get(NAME).await.unwrap().version(),
        &Version::number(8)
    );
    // When all of them are behind, it is refused.
    cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(
        cache.get(NAME).await.unwrap_err().kind(),
        ErrorKind::Refused
    );
}

#[tokio::test]
async fn a_record_that_was_gone_in_between_is_still_refused_a_lower_version_at_first() {
    let bench = bench();
    bench.backend.set_version(NAME, 7);
    bench.text().await;
    // An endpoint that lies can say so, too. After a restore on purpose the application forgets the version.
    bench.backend.remove(NAME);
    bench.cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::NotFound);
    bench.backend.set(NAME, "again");
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(bench.text().await, "again");
}
