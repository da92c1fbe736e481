//! What can be seen of the cache without asking anybody: a peek, and the status.

use super::*;

#[tokio::test]
async fn a_peek_answers_what_is_cached_and_asks_no_store() {
    let bench = bench();
    let name = NameRef::parse(NAME).unwrap();
    assert!(bench.cache.peek_text(name.as_str()).is_none());
    bench.text().await;
    assert!(bench.cache.peek_text(name.as_str()).is_some());
    bench.clock.advance(TTL);
    assert!(bench.cache.peek_text(name.as_str()).is_none());
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn a_peek_finds_every_field_of_a_record_however_many_there_are() {
    let bench = bench();
    for number in 0..40 {
        bench.backend.set(&format!("wide/record#f{number}"), "x");
    }
    for number in 0..40 {
        bench
            .cache
            .get(&format!("wide/record#f{number}"))
            .await
            .unwrap();
    }
    for number in 0..40 {
        let name = format!("wide/record#f{number}");
        assert!(
            bench.cache.peek(NameRef::parse(&name).unwrap()).is_some(),
            "{name}"
        );
    }
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn the_status_tells_what_is_held_and_what_outlived_its_end() {
    let bench = bench();
    let held = bench.get().await.unwrap();
    let status = bench.cache.status();
    assert_eq!(
        (status.entries, status.flights, status.closed),
        (1, 0, false)
    );
    assert_eq!(status.last_success, Some(crate::Moment::ZERO));
    bench.clock.advance(TTL);
    let status = bench.cache.status();
    assert_eq!((status.entries, status.bytes, status.outlived), (0, 0, 1));
    drop(held);
}

#[tokio::test]
async fn every_way_to_a_held_value_counts_as_a_hit() {
    let bench = bench();
    bench.backend.set("prod/db#user", "u");
    bench.backend.set("prod/db#host", "h");
    bench.text().await;
    assert_eq!(bench.cache.status().hits, 0);
    bench.text().await;
    assert_eq!(bench.cache.status().hits, 1);
    // Under names that the read path does not know yet: the long ways.
    bench.cache.get("prod/db#user").await.unwrap();
    assert_eq!(bench.cache.status().hits, 2);
    let host = NameRef::parse("prod/db#host").unwrap();
    assert!(bench.cache.peek_text(host.as_str()).is_none());
    assert!(bench.cache.peek(host).is_some());
    assert_eq!(bench.cache.status().hits, 3);
    // And now that it does.
    assert!(bench.cache.peek(host).is_some());
    assert_eq!(bench.cache.status().hits, 4);
    assert_eq!(
        (bench.cache.status().fetches, bench.backend.calls()),
        (1, 1)
    );
}
