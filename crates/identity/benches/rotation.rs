//! How soon an SVID that the agent has rotated is shown, and how often a login asks the agent.
//!
//! `cargo bench -p secret-resolver-spiffe --bench rotation`. The agent is the scripted one, in the same process: what is measured is ours.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::print_stdout, reason = "its output is a table")]

#[path = "../tests/workload_api/world.rs"]
mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, Moment};
use secret_resolver_session::JwtSource;
use secret_resolver_spiffe::SpiffeJwts;
use secret_resolver_transport::{Client, Method, Origin, Request, Trust};
use test_servers::{Answer, Reply, ScriptedHttps, TestCa, Validity, WorkloadMethod, jwt_message};
use world::*;

const ROTATIONS: usize = 50;
/// Within this an SVID that was rotated is shown.
const LIMIT: Duration = Duration::from_millis(100);

const HALF_LIVES: usize = 20;
const CALLERS: usize = 50;
const LIFE: Duration = Duration::from_secs(4);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // Without it, as a test of itself: `cargo test --bench rotation`.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let (rotations, half_lives) = match is_measured {
        true => (ROTATIONS, HALF_LIVES),
        false => (3, 1),
    };
    println!("load average {}\n", load());
    rotate(rotations).await;
    log_in(half_lives).await;
}

/// From the moment at which the agent is told to write its message.
async fn rotate(rotations: usize) {
    let world = World::new();
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let own = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let ok = |_: &_| Reply::json(200, "{}");
    let server = ScriptedHttps::start_demanding(&own, world.domain.ca(), ok).unwrap();
    let (mut watched, _) = world.showing().await;
    let clock = SystemClock::shared().unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    let client = Client::builder(
        Trust::from_pem(ca.pem().as_bytes()).unwrap(),
        Arc::new(clock.clone()),
    )
    .allow(origin.clone())
    .with_client_certificate(watched.source.clone())
    .build()
    .unwrap();
    let (mut received, mut shown) = (Vec::new(), Vec::new());
    for _ in 0..rotations {
        let svid = world.svid();
        let begun = clock.now();
        world.show(std::slice::from_ref(&svid));
        watched.until_shown(&svid).await;
        received.push(clock.now().since(begun));
        let asked = || Request::new(Method::Get, "/").unwrap();
        while server.requests().last().map(|request| &request.client)
            != Some(&svid.chain.first().cloned())
        {
            drop(client.send(&origin, asked()).await.unwrap());
        }
        shown.push(clock.now().since(begun));
    }
    assert_eq!(watched.identity.status().last_failure, None);
    println!("{rotations} rotations, limit {} ms\n", LIMIT.as_millis());
    println!("| from the agent's message until | p50 | most | most, beside the limit |");
    println!("|---|---|---|---|");
    for (until, mut samples) in [
        ("the source has it", received),
        ("a handshake has shown it", shown),
    ] {
        samples.sort();
        let [p50, most] = [samples.len() / 2, samples.len() - 1].map(|place| samples[place]);
        println!(
            "| {until} | {:.1} ms | {:.1} ms | {:.2} |",
            p50.as_secs_f64() * 1e3,
            most.as_secs_f64() * 1e3,
            most.as_secs_f64() / LIMIT.as_secs_f64()
        );
    }
}

/// Callers that ask for a JWT-SVID again and again, and an agent that gives another at each call.
async fn log_in(half_lives: usize) {
    let world = Arc::new(World::new());
    let clock = SystemClock::shared().unwrap();
    // When the agent was asked.
    let calls = Arc::new(Mutex::new(Vec::<Moment>::new()));
    let answers = {
        let (world, clock) = (Arc::downgrade(&world), clock.clone());
        let calls = Arc::clone(&calls);
        move |_: &_| {
            let world = world.upgrade().unwrap();
            calls.lock().unwrap().push(clock.now());
            let token = world.domain.jwt(PATH, AUDIENCE, LIFE).unwrap();
            Answer::one(&jwt_message(&[(&world.id(), &token)]))
        }
    };
    world.api.answer_by(WorkloadMethod::JwtSvid, answers);
    let source = world.identity().jwts(AUDIENCE).unwrap();
    let enough = half_lives + 1;
    let callers = (0..CALLERS).map(|_| {
        let (source, calls) = (source.clone(), Arc::clone(&calls));
        tokio::spawn(async move { asks(&source, || calls.lock().unwrap().len() > enough).await })
    });
    let mut gets = 0;
    let mut ends = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        let (asked, seen) = caller.await.unwrap();
        gets += asked;
        ends.extend(seen);
    }
    ends.sort();
    ends.dedup();
    let calls = calls.lock().unwrap();
    // Each call beside the one before it, in halves of the life that the JWT-SVID of that one had left.
    let pauses = calls.windows(2).zip(&ends).map(|(calls, ends)| {
        let half = ends.since(calls[0]) / 2;
        calls[1].since(calls[0]).as_secs_f64() / half.as_secs_f64()
    });
    let least = pauses.fold(f64::INFINITY, f64::min);
    println!("\n{CALLERS} callers, JWT-SVIDs of {} s\n", LIFE.as_secs());
    println!(
        "| JWT-SVIDs given to callers | calls of the agent | least time between two, in half-lives (limit: 1) |"
    );
    println!("|---|---|---|");
    println!("| {gets} | {} | {least:.3} |", calls.len());
    assert!(least >= 1.0, "the agent was asked too often");
}

/// How often it has asked, and the ends that it has seen.
async fn asks(source: &SpiffeJwts, enough: impl Fn() -> bool) -> (usize, Vec<Moment>) {
    let (mut asked, mut ends) = (0, Vec::new());
    while !enough() {
        let end = source.jwt().await.unwrap().ends().unwrap();
        asked += 1;
        if ends.last() != Some(&end) {
            ends.push(end);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (asked, ends)
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
