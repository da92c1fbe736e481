//! A resolver that was built before a fork, in the child: it refuses at once, and nothing hangs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fork::Fork;
use secret_resolver::backend::{NameRef, Request, Sleep, SystemClock};
use secret_resolver::testing::{MockBackend, Reply};
use secret_resolver::{Clock, Error, ErrorKind, Moment, Resolver, Secret, SecretResolver, Version};

const WARM: &str = "prod/db#password";
const COLD: &str = "cold/one";

fn at_once<F: Future + ?Sized>(future: Pin<&mut F>) -> F::Output {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits"),
    }
}

fn is_refused(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("fork"), "{error}");
}

fn refused(answer: Result<Secret, Error>) {
    is_refused(&answer.unwrap_err());
}

/// All that a resolver can be asked, in a forked child.
fn in_the_child(resolver: Resolver) {
    for name in [WARM, COLD] {
        refused(at_once(pin!(resolver.get(name))));
        refused(resolver.peek(name));
        is_refused(&at_once(pin!(resolver.handle(name))).unwrap_err());
        let names = [name, name];
        for answer in at_once(pin!(resolver.get_many(&names))) {
            refused(answer);
        }
        let limit = Duration::from_secs(60);
        for error in [
            at_once(pin!(resolver.require(&names))).unwrap_err(),
            at_once(pin!(resolver.require_within(&names, limit))).unwrap_err(),
        ] {
            assert_eq!(error.failures().count(), 2);
            error.failures().for_each(|(_, _, why)| is_refused(why));
        }
        let request = Request::new(NameRef::parse(name).unwrap());
        is_refused(&at_once(pin!(resolver.resolve(request))).unwrap_err());
        let batch = at_once(pin!(resolver.resolve_many(&[request])));
        is_refused(batch[0].as_ref().unwrap_err());
        let invalidator = resolver.invalidator();
        is_refused(&invalidator.invalidate(name).unwrap_err());
        is_refused(&invalidator.invalidate_prefix("none").unwrap_err());
        is_refused(&invalidator.forget_version(name).unwrap_err());
        is_refused(&invalidator.invalidate_all().unwrap_err());
    }
    assert!(resolver.status().closed);
    assert_eq!(format!("{resolver:?}"), "Resolver { .. }");
    // Nothing wakes a sleeper here.
    let clock = resolver.clock();
    at_once(pin!(
        clock.sleep_until(clock.now() + Duration::from_secs(60))
    ));
    let report = at_once(pin!(resolver.shutdown_within(Duration::from_secs(60))));
    assert!(report.timed_out);
    drop(resolver.clone());
    drop(resolver);
}

/// Forks, runs `child` in the child, and returns how it has ended: 0 when all was well.
fn forked(child: impl FnOnce()) -> i32 {
    match fork::fork().unwrap() {
        Fork::Child => {
            // What hangs ends the child, as a failure.
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_secs(10));
                std::process::abort();
            });
            let done = catch_unwind(AssertUnwindSafe(child));
            std::process::exit(if done.is_ok() { 0 } else { 1 });
        }
        Fork::Parent(child) => fork::waitpid(child).unwrap(),
    }
}

/// A resolver that is built in the child works there.
fn works_when_built_in_the_child() {
    let store = MockBackend::new().with_value(COLD, "value");
    let resolver = Resolver::builder(store).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let secret = runtime.block_on(resolver.get(COLD)).unwrap();
    assert_eq!(secret.expose_str().unwrap(), "value");
}

/// Run by the test below in its own process, which forks.
#[test]
#[ignore = "another test runs it in its own process"]
fn fork_with_a_resolver() {
    let store = MockBackend::new().with_value(WARM, "value");
    let resolver = Resolver::builder(store.clone()).build().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    drop(runtime.block_on(resolver.get(WARM)).unwrap());
    // Others at work, so that locks are held when it forks.
    let ended = Arc::new(AtomicBool::new(false));
    for worker in 0..4 {
        let (resolver, ended) = (resolver.clone(), Arc::clone(&ended));
        store.set(&format!("busy/{worker}"), "value");
        drop(runtime.spawn(async move {
            let name = format!("busy/{worker}");
            while !ended.load(Ordering::Relaxed) {
                resolver.get(&name).await.unwrap();
                resolver.invalidator().invalidate(&name).unwrap();
            }
        }));
    }
    // And one whose breakers' locks are held.
    let watching = (resolver.clone(), Arc::clone(&ended));
    let watcher = std::thread::spawn(move || {
        while !watching.1.load(Ordering::Relaxed) {
            let _ = watching.0.status();
        }
    });
    for round in 0..20 {
        let child = || {
            in_the_child(resolver.clone());
            if round == 0 {
                works_when_built_in_the_child();
            }
        };
        assert_eq!(forked(child), 0);
        std::thread::sleep(Duration::from_millis(round));
    }
    ended.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    drop(runtime.block_on(resolver.get(WARM)).unwrap());
}

fn waits<F: Future + ?Sized>(future: Pin<&mut F>) {
    let answer = future.poll(&mut Context::from_waker(Waker::noop()));
    assert!(answer.is_pending());
}

/// Run by the test below in its own process, which forks.
#[test]
#[ignore = "another test runs it in its own process"]
fn fork_with_futures_that_wait() {
    const LIMIT: Duration = Duration::from_secs(60);
    const NAMES: [&str; 2] = [WARM, COLD];
    let store = MockBackend::new().with_value(WARM, "value");
    let resolver = Resolver::builder(store.clone()).build().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut handle = runtime.block_on(resolver.handle(WARM)).unwrap();
    let gone = handle.clone();
    // It has room for one handle: to find that out for a second one takes a lock.
    let full = Resolver::builder(store.clone()).with_max_entries(2);
    let full = full.build().unwrap();
    let _only = runtime.block_on(full.handle(WARM)).unwrap();
    store.always(Reply::Hang);
    let version = Version::number(9);
    let exact = Request::new(NameRef::parse(WARM).unwrap()).with_version(&version);
    let batch = [exact, Request::new(NameRef::parse(COLD).unwrap())];
    let mut changed = Box::pin(handle.changed());
    waits(changed.as_mut());
    resolver.invalidator().invalidate(WARM).unwrap();
    let mut current = Box::pin(gone.current());
    let mut reads = batch.map(|request| Box::pin(resolver.resolve(request)));
    let mut get = Box::pin(resolver.get(COLD));
    let mut many = Box::pin(resolver.get_many(&NAMES));
    let mut reading = Box::pin(resolver.resolve_many(&batch));
    let mut require = Box::pin(resolver.require(&NAMES));
    let mut within = Box::pin(resolver.require_within(&NAMES, LIMIT));
    let mut made = Box::pin(resolver.handle(COLD));
    let mut left = Some(Box::pin(resolver.get(COLD)));
    waits(current.as_mut());
    reads.iter_mut().for_each(|read| waits(read.as_mut()));
    waits(get.as_mut());
    waits(many.as_mut());
    waits(reading.as_mut());
    waits(require.as_mut());
    waits(within.as_mut());
    waits(made.as_mut());
    waits(left.as_mut().unwrap().as_mut());
    let ended = forked(|| {
        is_refused(&at_once(changed.as_mut()).unwrap_err());
        refused(at_once(current.as_mut()));
        for read in &mut reads {
            is_refused(&at_once(read.as_mut()).unwrap_err());
        }
        refused(at_once(get.as_mut()));
        at_once(many.as_mut()).into_iter().for_each(refused);
        for answer in at_once(reading.as_mut()) {
            is_refused(&answer.unwrap_err());
        }
        for error in [at_once(require.as_mut()), at_once(within.as_mut())] {
            let error = error.unwrap_err();
            assert_eq!(error.failures().count(), 2);
            error.failures().for_each(|(_, _, why)| is_refused(why));
        }
        is_refused(&at_once(made.as_mut()).unwrap_err());
        is_refused(&at_once(pin!(full.handle(COLD))).unwrap_err());
        drop(left.take());
    });
    assert_eq!(ended, 0);
    // In the parent they wait as before.
    waits(get.as_mut());
}

/// A clock that blocks the thread `holds` for ever when that thread asks it.
#[derive(Debug)]
struct Stops(SystemClock, Sender<()>);

impl Clock for Stops {
    fn now(&self) -> Moment {
        if std::thread::current().name() == Some("holds") {
            let _ = self.1.send(());
            loop {
                std::thread::park();
            }
        }
        self.0.now()
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        self.0.sleep_until(moment)
    }
}

/// How the process below says that all was well: it cannot end as others do.
const WELL: i32 = 42;

/// Run by the test below in its own process, which forks.
#[test]
#[ignore = "another test runs it in its own process"]
fn fork_while_another_thread_holds_the_cache_s_lock() {
    let (report, stopped) = channel();
    let store = MockBackend::new().with_value(WARM, "value");
    let resolver = Resolver::builder(store)
        .with_clock(Stops(SystemClock::shared().unwrap(), report))
        .build()
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    drop(runtime.block_on(resolver.get(WARM)).unwrap());
    let invalidator = resolver.invalidator();
    // It asks for the time under the lock.
    std::thread::Builder::new()
        .name("holds".into())
        .spawn(move || invalidator.invalidate_all())
        .unwrap();
    stopped.recv().unwrap();
    // Dropped in the child alone: in the parent that waits for the lock.
    let mut last = Some(resolver);
    let ended = forked(|| in_the_child(last.take().unwrap()));
    std::process::exit(if ended == 0 { WELL } else { 1 });
}

/// Runs one of the tests above in its own process, for half a minute at most.
fn alone(test: &str) -> Output {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args([test, "--exact", "--ignored", "--test-threads=1"])
        .stdout(Stdio::piped());
    let mut child = process.spawn().unwrap();
    for _ in 0..300 {
        if child.try_wait().unwrap().is_some() {
            return child.wait_with_output().unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn in_a_forked_child_every_call_is_refused_at_once_and_nothing_hangs() {
    let output = alone("fork_with_a_resolver");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn in_a_forked_child_what_was_waited_for_before_the_fork_is_refused_at_once() {
    let output = alone("fork_with_futures_that_wait");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn in_a_forked_child_nothing_waits_for_a_lock_that_nobody_gives_back() {
    let output = alone("fork_while_another_thread_holds_the_cache_s_lock");
    assert_eq!(output.status.code(), Some(WELL), "{output:?}");
}
