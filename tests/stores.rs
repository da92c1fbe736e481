//! What one store does to the others and to what is known about it: a store that blocks its thread, and
//! a process that was stopped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::{Request, ResolveFuture, SystemClock};
use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{BreakerConfig, BreakerState, LimitConfig};
use secret_resolver::{Clock, Error, ErrorKind, Freshness, Resolver, SecretResolver};

/// A store whose code blocks the thread that polls it, until the sender goes; it reports when it blocks.
#[derive(Debug)]
struct Blocks(Arc<Mutex<Receiver<()>>>, Sender<()>);

impl SecretResolver for Blocks {
    fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let _ = self.1.send(());
            let _ = self.0.lock().unwrap().recv();
            Err(Error::new(ErrorKind::NotFound, "it only blocks"))
        })
    }
}

fn blocks() -> (Blocks, Sender<()>, Receiver<()>) {
    let (release, released) = channel();
    let (begun, blocked) = channel();
    let released = Arc::new(Mutex::new(released));
    (Blocks(released, begun), release, blocked)
}

#[tokio::test]
async fn a_store_whose_code_blocks_holds_up_no_other_store() {
    let healthy = MockBackend::new();
    let names: Vec<_> = (0..100).map(|number| format!("fast/{number}")).collect();
    for name in &names {
        healthy.set(name, "value");
    }
    let (slow, release, blocked) = blocks();
    let resolver = Resolver::builder(healthy.clone())
        .with_route("slow", slow)
        .dangerous_fallback_to_for("fast", MockBackend::new())
        .build()
        .unwrap();
    let waiting = resolver.clone();
    let waiting = tokio::spawn(async move { waiting.get("slow/x").await });
    tokio::task::spawn_blocking(move || blocked.recv().unwrap())
        .await
        .unwrap();
    let start = resolver.clock().now();
    for name in &names {
        let secret = resolver.get(name).await.unwrap();
        assert_eq!(secret.answer().freshness(), Freshness::Fresh);
    }
    let took = resolver.clock().now().since(start);
    assert!(took < Duration::from_secs(1), "{took:?}");
    // And it blocks still.
    assert!(!waiting.is_finished());
    drop(release);
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn an_attempt_ends_in_time_although_its_store_blocks_and_a_fallback_is_not_held_up() {
    let (primary, release, _blocked) = blocks();
    let fallback = MockBackend::new().with_value("a/b", "value");
    // The fetch has two seconds, and its attempt one.
    let resolver = Resolver::builder(primary)
        .with_attempts(1)
        .with_deadline(Duration::from_millis(2500))
        .dangerous_fallback_to(fallback)
        .build()
        .unwrap();
    let start = resolver.clock().now();
    let secret = resolver.get("a/b").await.unwrap();
    let took = resolver.clock().now().since(start);
    assert_eq!(secret.answer().freshness(), Freshness::Fallback);
    assert!(took < Duration::from_millis(1800), "{took:?}");
    drop(release);
}

#[tokio::test]
async fn a_fallback_whose_code_blocks_holds_up_no_other_name() {
    let primary = MockBackend::new().with_value("fast/x", "value");
    primary.script("down/x", [Reply::Error(ErrorKind::Unavailable)]);
    let (fallback, release, blocked) = blocks();
    let resolver = Resolver::builder(primary)
        .with_attempts(1)
        .dangerous_fallback_to_for("down", fallback)
        .build()
        .unwrap();
    let waiting = resolver.clone();
    let waiting = tokio::spawn(async move { waiting.get("down/x").await });
    tokio::task::spawn_blocking(move || blocked.recv().unwrap())
        .await
        .unwrap();
    let get = tokio::time::timeout(Duration::from_secs(1), resolver.get("fast/x"));
    assert!(get.await.unwrap().is_ok());
    drop(release);
    assert!(waiting.await.unwrap().is_err());
}

/// A store whose connection does not outlive a stop of its process: it answers after a while, and
/// an outage if that has become longer.
#[derive(Debug)]
struct Breaks(SystemClock, MockBackend);

const WHILE: Duration = Duration::from_millis(800);

impl SecretResolver for Breaks {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            say("asked");
            let due = self.0.now() + WHILE;
            self.0.sleep_until(due).await;
            match self.0.now().since(due) > WHILE * 2 {
                true => Err(Error::new(ErrorKind::Unavailable, "the connection broke")),
                false => self.1.resolve(request).await,
            }
        })
    }
}

/// Writes to the parent, past the harness, which would keep it.
fn say(what: &str) {
    let _ = writeln!(std::io::stdout(), "\n{what}");
}

/// Run by the test below in its own process, which it stops for a while.
#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn get_while_the_process_is_stopped() {
    let clock = SystemClock::shared().unwrap();
    let store = MockBackend::new().with_value("a/b", "value");
    let breaker = BreakerConfig::default().with_failures(1);
    let resolver = Resolver::builder(Breaks(clock.clone(), store))
        .with_attempts(1)
        .with_breaker(breaker)
        .with_deadline(Duration::from_secs(8))
        .dangerous_fallback_to(MockBackend::new().with_value("a/b", "other"))
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let secret = resolver.get("a/b").await.unwrap();
    assert!(clock.lost() > Duration::from_secs(2), "it was not stopped");
    assert_eq!(secret.answer().freshness(), Freshness::Fresh);
    let status = resolver.status();
    assert_eq!(status.stores[0].endpoints[0].breaker, BreakerState::Closed);
    assert_eq!(status.fallback_answers, 0);
}

/// Ends the process with the test, however the test ends.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `test` in its own process, and stops that for `stop` once it has said "asked"; returns
/// what else it said.
#[cfg(unix)]
fn said_after_a_stop(test: &str, stop: Duration) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--ignored", "--nocapture"])
        .stdout(Stdio::piped());
    let mut child = Ends(command.spawn().unwrap());
    let signal = |name: &str, process: u32| {
        let mut kill = Command::new("kill");
        assert!(
            kill.args([name, &process.to_string()])
                .status()
                .unwrap()
                .success()
        );
    };
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    while lines.next().unwrap().unwrap() != "asked" {}
    std::thread::sleep(Duration::from_millis(100));
    signal("-STOP", child.0.id());
    std::thread::sleep(stop);
    signal("-CONT", child.0.id());
    lines.map_while(Result::ok).collect()
}

#[cfg(unix)]
#[test]
fn a_stop_of_the_process_is_not_an_outage_of_its_store() {
    let said = said_after_a_stop(
        "get_while_the_process_is_stopped",
        Duration::from_millis(3500),
    );
    assert!(
        said.iter().any(|line| line.contains("1 passed")),
        "{said:?}"
    );
}

/// A store that takes a while, and first of all says that it is away.
#[derive(Debug)]
struct Slow(SystemClock, MockBackend, AtomicBool);

impl SecretResolver for Slow {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            if self.2.swap(false, Ordering::SeqCst) {
                let error = Error::new(ErrorKind::Unavailable, "it starts");
                return Err(error.with_retry_after(Duration::from_secs(1)));
            }
            // In two steps, so that it is not ready at once after a stop.
            for _ in 0..2 {
                let due = self.0.now() + Duration::from_millis(300);
                self.0.sleep_until(due).await;
            }
            self.1.resolve(request).await
        })
    }
}

/// Run by the test below in its own process, which it stops for longer than a fetch may take.
#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn gets_that_wait_for_a_permit_and_for_a_retry_while_the_process_is_stopped() {
    let clock = SystemClock::shared().unwrap();
    let one = LimitConfig::default().with_max_concurrent(1);
    let resolver = |away| {
        let store = MockBackend::new().with_value("a/b", "value");
        store.set("a/c", "value");
        let other = MockBackend::new().with_value("a/b", "other");
        other.set("a/c", "other");
        Resolver::builder(Slow(clock.clone(), store, AtomicBool::new(away)))
            .with_limit(one)
            .with_deadline(Duration::from_secs(10))
            .dangerous_fallback_to(other)
            .with_clock(clock.clone())
            .build()
            .unwrap()
    };
    let (queue, retry) = (resolver(false), resolver(true));
    let get = |resolver: &Resolver, name: &'static str| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.get(name).await })
    };
    let gets = [get(&queue, "a/b"), get(&queue, "a/c"), get(&retry, "a/b")];
    tokio::time::sleep(Duration::from_millis(100)).await;
    say("asked");
    for get in gets {
        let secret = get.await.unwrap().unwrap();
        assert_eq!(secret.answer().freshness(), Freshness::Fresh);
    }
    assert!(clock.lost() > Duration::from_secs(3), "it was not stopped");
    assert_eq!(queue.status().fallback_answers, 0);
    assert_eq!(retry.status().fallback_answers, 0);
}

#[cfg(unix)]
#[test]
fn a_get_that_waits_for_a_permit_or_for_a_retry_gets_the_store_s_answer_after_a_stop() {
    let said = said_after_a_stop(
        "gets_that_wait_for_a_permit_and_for_a_retry_while_the_process_is_stopped",
        Duration::from_millis(7700),
    );
    assert!(
        said.iter().any(|line| line.contains("1 passed")),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_not_ready_and_says_why_until_it_answers_again() {
    let (store, route) = (MockBackend::new(), MockBackend::new());
    store.set("a", "value");
    let clock = ManualClock::new();
    let resolver = Resolver::builder(store.clone())
        .with_route("other", route.clone())
        .with_limit_for("own", LimitConfig::default())
        .with_attempts(1)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    resolver.ready().unwrap();
    let names: Vec<_> = resolver
        .status()
        .stores
        .into_iter()
        .map(|store| (store.name, store.limit_for))
        .collect();
    let own = Some("own".to_owned());
    let wanted = [
        ("primary", None),
        ("primary", own.clone()),
        ("other", None),
        ("other", own),
    ];
    assert_eq!(names, wanted.map(|(name, limit)| (name.to_owned(), limit)));
    route.always(Reply::Error(ErrorKind::Unavailable));
    for number in 0..5 {
        resolver.get(&format!("other/{number}")).await.unwrap_err();
    }
    let error = resolver.ready().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let said = error.to_string();
    assert!(
        said.contains("store other") && said.contains("scripted by the test"),
        "{said}"
    );
    assert!(!said.contains("other/"), "a name: {said}");
    assert!(!resolver.status().is_ready());
    // The breaker's own refusal carries the last cause, too.
    let refused = resolver.get("other/x").await.unwrap_err().to_string();
    assert!(refused.contains("scripted by the test"), "{refused}");
    let status = resolver.status();
    let failure = status.stores[2].endpoints[0].last_failure.clone().unwrap();
    assert_eq!(
        (failure.kind, Some(failure.at)),
        (ErrorKind::Unavailable, status.at)
    );
    route.always(None);
    route.set("other/0", "value");
    clock.advance(Duration::from_secs(1));
    resolver.get("other/0").await.unwrap();
    resolver.ready().unwrap();
    assert_eq!(
        resolver.status().stores[2].endpoints[0].last_success,
        resolver.status().at
    );
    resolver.shutdown_within(Duration::from_secs(1)).await;
    assert_eq!(resolver.ready().unwrap_err().kind(), ErrorKind::Closed);
}
