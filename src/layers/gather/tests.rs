use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::error::ErrorKind;
use crate::name::NameRef;
use crate::secret::Version;
use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};
use crate::testing::{Gate, ManualClock, MockBackend, Reply};

type Read<'a> = Pin<Box<dyn Future<Output = Result<Record, Error>> + Send + 'a>>;

/// A store that reads three names at once, with the names `a` to `h`, each its own value.
fn setup() -> (ManualClock, MockBackend, Gather<MockBackend>) {
    let clock = ManualClock::strict();
    let store = MockBackend::new().reading_at_once(3);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        store.set(name, format!("value of {name}"));
    }
    let layer = Gather::new(store.clone(), Arc::new(clock.clone()));
    (clock, store, layer)
}

fn request(name: &str) -> Request<'_> {
    Request::new(NameRef::parse(name).unwrap())
}

fn read<'a>(layer: &'a Gather<MockBackend>, name: &'a str) -> Read<'a> {
    Box::pin(layer.resolve(request(name)))
}

/// The value, or the kind of the error; `None` where it waits.
fn poll(read: &mut Read<'_>) -> Option<String> {
    let mut cx = Context::from_waker(Waker::noop());
    match read.as_mut().poll(&mut cx) {
        Poll::Ready(answer) => Some(match answer.and_then(Record::into_secret) {
            Ok(secret) => secret.expose_str().unwrap().to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        }),
        Poll::Pending => None,
    }
}

/// Reads of these names that wait: the first for its answer, which `gate` holds back, the others for the first.
fn waiting<'a>(
    store: &MockBackend,
    layer: &'a Gather<MockBackend>,
    names: &[&'a str],
) -> (Gate, Vec<Read<'a>>) {
    let (gate, before) = (Gate::new(), store.calls());
    store.script(names[0], [gate.then(Reply::Stored)]);
    let mut reads: Vec<_> = names.iter().map(|name| read(layer, name)).collect();
    assert!(reads.iter_mut().all(|read| poll(read).is_none()));
    assert_eq!(store.calls(), before + 1);
    (gate, reads)
}

/// Polls all until none goes on; the answers.
fn finish(reads: &mut [Read<'_>]) -> Vec<String> {
    let mut answers = vec![None; reads.len()];
    for _ in 0..=reads.len() {
        for (read, answer) in reads.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                *answer = poll(read);
            }
        }
    }
    let text = |answer: Option<String>| answer.unwrap_or_else(|| "waits".to_owned());
    answers.into_iter().map(text).collect()
}

fn values(names: &[&str]) -> Vec<String> {
    names
        .iter()
        .map(|name| format!("value of {name}"))
        .collect()
}

#[test]
fn the_first_read_goes_at_once_and_those_that_come_meanwhile_go_together_next() {
    let (_, store, layer) = setup();
    let names = ["a", "b", "c", "d"];
    let (gate, mut reads) = waiting(&store, &layer, &names);
    gate.open();
    assert_eq!(finish(&mut reads), values(&names));
    assert_eq!(store.calls(), 2);
    // Nothing is under way any more.
    assert_eq!(poll(&mut read(&layer, "e")), Some("value of e".to_owned()));
    assert_eq!(store.calls(), 3);
}

#[test]
fn no_request_has_more_names_than_the_store_reads_at_once() {
    let (_, store, layer) = setup();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (gate, mut reads) = waiting(&store, &layer, &names);
    gate.open();
    assert_eq!(finish(&mut reads), values(&names));
    // One, three, three, one.
    assert_eq!(store.calls(), 4);
}

#[test]
fn each_name_fails_alone_and_the_rest_are_answered() {
    let (_, store, layer) = setup();
    store.script("b", [Reply::Error(ErrorKind::Denied)]);
    let (gate, mut reads) = waiting(&store, &layer, &["a", "b", "none", "c"]);
    gate.open();
    let expected = ["value of a", "Denied", "NotFound", "value of c"];
    assert_eq!(finish(&mut reads), expected);
    assert_eq!(store.calls(), 2);
}

#[test]
fn the_failure_of_a_request_is_that_of_each_of_its_names() {
    let (_, store, layer) = setup();
    store.script("b", [Reply::Error(ErrorKind::Unavailable)]);
    let (gate, mut reads) = waiting(&store, &layer, &["a", "b", "c", "d"]);
    gate.open();
    let away = "Unavailable";
    assert_eq!(finish(&mut reads), ["value of a", away, away, away]);
    assert_eq!(store.calls(), 2);
}

#[test]
fn a_name_that_the_backend_leaves_out_is_asked_alone() {
    /// Says that it reads several, and reads one.
    #[derive(Debug)]
    struct Forgets(MockBackend);
    impl SecretResolver for Forgets {
        fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
            self.0.resolve(request.renamed(request.name()))
        }
        fn at_once(&self, _: &Request<'_>) -> usize {
            10
        }
    }
    let (clock, store, _) = setup();
    let layer = Gather::new(Forgets(store.clone()), Arc::new(clock));
    let gate = Gate::new();
    store.script("a", [gate.then(Reply::Stored)]);
    let names = ["a", "none", "c", "d"];
    let mut reads: Vec<Read<'_>> = names
        .iter()
        .map(|name| Box::pin(layer.resolve(request(name))) as Read<'_>)
        .collect();
    assert!(reads.iter_mut().all(|read| poll(read).is_none()));
    gate.open();
    // The one that leads fails for itself alone.
    let expected = ["value of a", "NotFound", "value of c", "value of d"];
    assert_eq!(finish(&mut reads), expected);
    assert_eq!(store.calls(), 4);
}

#[test]
fn a_read_that_is_dropped_leaves_and_the_others_go_without_it() {
    let (_, store, layer) = setup();
    // The first of those that wait, which would lead; it is never asked for.
    let (gate, mut reads) = waiting(&store, &layer, &["a", "b", "c", "d"]);
    drop(reads.remove(1));
    gate.open();
    assert_eq!(finish(&mut reads), values(&["a", "c", "d"]));
    assert_eq!((store.calls(), store.calls_of("b")), (2, 0));
    // One that leads, before it is polled again.
    let (gate, mut reads) = waiting(&store, &layer, &["a", "b", "c", "d"]);
    gate.open();
    assert!(poll(&mut reads[0]).is_some());
    drop(reads.remove(1));
    assert_eq!(finish(&mut reads[1..]), values(&["c", "d"]));
    // One that leads, while the store is asked.
    let (gate, mut reads) = waiting(&store, &layer, &["a", "b", "c", "d"]);
    let never = Gate::new();
    store.script("b", [never.then(Reply::Stored)]);
    gate.open();
    assert!(poll(&mut reads[0]).is_some());
    assert!(poll(&mut reads[1]).is_none());
    drop(reads.remove(1));
    assert_eq!(finish(&mut reads[1..]), values(&["c", "d"]));
    // The first of all, while the store is asked.
    let (_, mut reads) = waiting(&store, &layer, &["a", "b", "c", "d"]);
    drop(reads.remove(0));
    assert_eq!(finish(&mut reads), values(&["b", "c", "d"]));
}

#[test]
fn a_read_that_hangs_holds_up_the_others_for_a_quarter_of_a_second() {
    let (clock, store, layer) = setup();
    let (_, mut reads) = waiting(&store, &layer, &["a", "b", "c"]);
    clock.advance(PATIENCE - Duration::from_millis(1));
    assert_eq!(finish(&mut reads), ["waits", "waits", "waits"]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(finish(&mut reads), ["waits", "value of b", "value of c"]);
    // What comes now does not wait for the one that hangs.
    assert_eq!(poll(&mut read(&layer, "d")), Some("value of d".to_owned()));
    assert_eq!(store.calls(), 3);
}

#[test]
fn an_exact_version_and_a_read_that_is_directed_go_alone_and_at_once() {
    let (_, store, layer) = setup();
    let (_gate, _reads) = waiting(&store, &layer, &["a"]);
    let version = Version::number(1);
    let exact = request("b").with_version(&version);
    let directed = request("c").at_endpoint(0);
    for (request, value) in [(exact, "value of b"), (directed, "value of c")] {
        let mut read: Read<'_> = Box::pin(layer.resolve(request));
        assert_eq!(poll(&mut read).as_deref(), Some(value));
    }
    assert_eq!(store.calls(), 3);
}

#[test]
fn a_store_that_reads_one_at_a_time_is_asked_for_each_at_once() {
    let (clock, _, _) = setup();
    let store = MockBackend::new().with_value("a", "value of a");
    let layer = Gather::new(store.clone(), Arc::new(clock));
    store.script("a", [Reply::Hang]);
    let mut hangs = read(&layer, "a");
    assert!(poll(&mut hangs).is_none());
    assert_eq!(poll(&mut read(&layer, "a")).as_deref(), Some("value of a"));
    assert_eq!(lock(&layer.state).under_way, 0);
}

#[test]
fn an_answer_of_a_batch_is_as_old_as_its_request_and_is_a_version_that_was_accepted() {
    let (clock, store, layer) = setup();
    let floor = Version::number(2);
    store.set("d", "value of d");
    let gate = Gate::new();
    store.script("a", [gate.then(Reply::Stored)]);
    let mut first = read(&layer, "a");
    let mut others: Vec<Read<'_>> = ["b", "c", "d"]
        .into_iter()
        .map(|name| Box::pin(layer.resolve(request(name).at_least(&floor))) as Read<'_>)
        .collect();
    assert!(poll(&mut first).is_none());
    assert!(others.iter_mut().all(|read| poll(read).is_none()));
    clock.advance(PATIENCE / 2);
    let sent = clock.now();
    gate.open();
    assert!(poll(&mut first).is_some());
    // Each for itself, the one that leads, too.
    assert_eq!(poll(&mut others[0]).as_deref(), Some("Refused"));
    assert_eq!(poll(&mut others[1]).as_deref(), Some("Refused"));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(record)) = others[2].as_mut().poll(&mut cx) else {
        panic!("it is answered");
    };
    assert_eq!(record.answer().fetched_at(), Some(sent));
}

#[tokio::test]
async fn it_keeps_all_laws() {
    let store = MockBackend::new()
        .reading_at_once(100)
        .with_value("a/b#c", "one-canary")
        .with_value("d/e", "two-canary");
    let layer = Gather::new(store, Arc::new(ManualClock::strict()));
    let subject = Subject::new(Arc::new(layer), "no/such").unwrap();
    let subject = subject.stores("a/b#c", "one-canary").unwrap();
    let subject = subject.stores("d/e", "two-canary").unwrap();
    all(&subject).await.unwrap();
    after_shutdown_all_is_refused(&subject).await.unwrap();
}
