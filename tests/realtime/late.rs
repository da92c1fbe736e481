//! The process is stopped, as by a debugger, a suspend or a scheduler, and the answers wait for it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::StoreStatus;
use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::{
    Error, ErrorKind, Freshness, Moment, Record, Resolver, SecretBuf, SecretResolver,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Store, end_of, ms, now, number_of, pause, since, start, within};

const PORT: &str = "REALTIME_PORT";
const TTL: Duration = Duration::from_secs(2);

/// The store's end, in the process that is not stopped: it answers at once, or holds answers back.
struct Wire {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    holding: bool,
    held: Vec<TcpStream>,
    control: Option<TcpStream>,
}

impl Wire {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::downgrade(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (Ok(mut connection), Some(state)) = (connection, shared.upgrade()) else {
                    return;
                };
                let mut line = String::new();
                // A client that is stopped before it has said anything is waited for.
                let _ = BufReader::new(&connection).read_line(&mut line);
                let mut state = state.lock().unwrap();
                match line.trim() {
                    "control" => state.control = Some(connection),
                    _ if state.holding => state.held.push(connection),
                    _ => drop(connection.write_all(b"value")),
                }
            }
        });
        Self { port, state }
    }

    fn start(&self, test: &str) -> Child {
        start(test, &[(PORT, &self.port.to_string())])
    }

    /// Holds answers back until there are `number` of them; stops the process; answers; lets it go on.
    fn stop(&self, process: &mut Child, number: usize, time: Duration) {
        self.state.lock().unwrap().holding = true;
        let begun = now();
        while self.state.lock().unwrap().held.len() < number {
            assert!(
                since(begun) < Duration::from_secs(10),
                "it asks for nothing"
            );
            assert!(process.try_wait().unwrap().is_none(), "it has ended");
            std::thread::sleep(ms(1));
        }
        std::thread::sleep(ms(random() % 200));
        signal(process, "STOP");
        // The signal is sent, but a thread may run on for a moment, and take an answer.
        let begun = now();
        while !stands_still(process) {
            assert!(since(begun) < Duration::from_secs(10), "it does not stop");
            std::thread::sleep(ms(1));
        }
        let mut state = self.state.lock().unwrap();
        for mut held in state.held.drain(..) {
            held.write_all(b"value").unwrap();
        }
        state.holding = false;
        drop(state);
        std::thread::sleep(time);
        signal(process, "CONT");
    }

    /// Says to the process that there will be no more stops.
    fn end(&self) {
        self.state.lock().unwrap().control = None;
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn signal(process: &Child, signal: &str) {
    let (signal, process) = (format!("-{signal}"), process.id().to_string());
    let sent = Command::new("kill").args([signal, process]).status();
    assert!(sent.unwrap().success());
}

/// Whether every thread of the process is stopped.
fn stands_still(process: &Child) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

/// The other end: a store that is asked over a socket, and when.
#[derive(Clone, Debug, Default)]
struct Remote(Arc<Mutex<Vec<Moment>>>);

impl Remote {
    fn port() -> u16 {
        std::env::var(PORT).unwrap().parse().unwrap()
    }

    async fn ask(&self, name: &str) -> std::io::Result<usize> {
        let number = {
            let mut sent = self.0.lock().unwrap();
            sent.push(now());
            sent.len() - 1
        };
        let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", Self::port())).await?;
        connection.write_all(format!("{name}\n").as_bytes()).await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        Ok(number)
    }
}

impl SecretResolver for Remote {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let number = self.ask(request.name().as_str()).await;
            let number = number.map_err(|_| Error::new(ErrorKind::Unavailable, "by the wire"))?;
            let value = SecretBuf::from_slice(format!("#{number}").as_bytes())?;
            Ok(Record::single("remote", value))
        })
    }
}

/// How long before its answer each fresh answer was asked for.
#[derive(Clone)]
struct Ages(Remote, Resolver, Arc<Mutex<Vec<Duration>>>);

impl Ages {
    async fn get(&self, name: &str) {
        let answer = self.1.get(name).await;
        let at = now();
        if let Ok(secret) = answer
            && secret.answer().freshness() == Freshness::Fresh
        {
            let sent = self.0.0.lock().unwrap()[number_of(&secret)];
            self.2.lock().unwrap().push(at.since(sent));
        }
    }
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn ages_in_a_process_that_is_stopped() {
    let control = TcpStream::connect(("127.0.0.1", Remote::port())).unwrap();
    (&control).write_all(b"control\n").unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let _ = (&control).read(&mut [0]);
            ended.store(true, Ordering::Release);
        }
    });
    let remote = Remote::default();
    let resolver = Resolver::builder(remote.clone()).with_ttl(TTL);
    let ages = Ages(remote, resolver.build().unwrap(), Arc::default());
    // A hot name, which is refreshed ahead of its end, and cold ones, each got twice.
    let hot = tokio::spawn({
        let ages = ages.clone();
        async move {
            loop {
                ages.get("hot/x").await;
                pause(50).await;
            }
        }
    });
    for number in 0.. {
        let name = format!("cold/{number}");
        ages.get(&name).await;
        ages.get(&name).await;
        if ended.load(Ordering::Acquire) {
            break;
        }
        pause(50).await;
    }
    hot.abort();
    let ages = ages.2.lock().unwrap();
    let late = ages.iter().filter(|age| **age > TTL + ms(100)).count();
    let worst = ages.iter().max().unwrap();
    let number = ages.len();
    assert!(number > 20, "only {number} fresh answers");
    assert_eq!(
        late, 0,
        "{late} of {number} are late, the oldest after {worst:?}"
    );
}

#[test]
fn an_answer_that_waited_for_a_stopped_process_is_as_old_as_its_request() {
    let wire = Wire::new();
    let mut process = wire.start("late::ages_in_a_process_that_is_stopped");
    for _ in 0..3 {
        std::thread::sleep(ms(200 + random() % 1500));
        wire.stop(&mut process, 1, ms(4000));
    }
    std::thread::sleep(ms(500));
    wire.end();
    let ended = end_of(&mut process, Duration::from_secs(10));
    assert!(ended.is_ok(), "{}", ended.unwrap_err());
}

/// Gets twenty names at once; what each was answered, and after how long.
async fn get_all(resolver: &Resolver, kind: &str) -> Vec<(Result<Freshness, ErrorKind>, Duration)> {
    let gets = (0..20).map(|number| {
        let (resolver, name) = (resolver.clone(), format!("{kind}/{number}"));
        tokio::spawn(async move {
            let asked = now();
            let answer = within(Duration::from_secs(20), resolver.get(&name)).await;
            let freshness = answer.map(|secret| secret.answer().freshness());
            (freshness.map_err(|error| error.kind()), since(asked))
        })
    });
    let mut answers = Vec::new();
    for get in gets.collect::<Vec<_>>() {
        answers.push(get.await.unwrap());
    }
    answers
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn fetches_under_way_in_a_process_that_is_stopped() {
    let fallback = Store::new("fallback");
    let resolver = Resolver::builder(Remote::default())
        .dangerous_fallback_to(fallback.clone())
        .build()
        .unwrap();
    let during = get_all(&resolver, "during").await;
    let mut stores = resolver.status().stores;
    let after = get_all(&resolver, "after").await;
    stores.extend(resolver.status().stores);
    let asked = fallback.asked();
    let seen = format!("{during:?}, then {after:?}, {asked} asked of the fallback, {stores:?}");
    let by_fallback = during
        .iter()
        .any(|(answer, _)| *answer == Ok(Freshness::Fallback));
    let fresh = after
        .iter()
        .all(|(answer, _)| *answer == Ok(Freshness::Fresh));
    assert!(!by_fallback, "{seen}");
    assert!(stores.iter().all(StoreStatus::is_ready), "{seen}");
    assert!(fresh, "{seen}");
    assert_eq!(asked, 0, "{seen}");
}

#[test]
fn a_stop_of_the_process_is_not_an_outage_of_the_store() {
    let wire = Wire::new();
    // Before the process runs, so that none of its first twenty requests is answered too early.
    wire.state.lock().unwrap().holding = true;
    let mut process = wire.start("late::fetches_under_way_in_a_process_that_is_stopped");
    wire.stop(&mut process, 20, ms(6000));
    let ended = end_of(&mut process, Duration::from_secs(20));
    assert!(ended.is_ok(), "{}", ended.unwrap_err());
}
