//! Each fault, and that one for once is used up.
#![allow(
    clippy::disallowed_methods,
    reason = "what is measured here is how long a real answer takes"
)]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use conjur_double::{Answer, ConjurDouble, Fault, Gate, Kind, Where};

use crate::client::{Client, header};

const READ: &str = "/secrets/myorg/variable/v";
const PATIENCE: Duration = Duration::from_secs(20);

fn with_value() -> (ConjurDouble, String) {
    let conjur = ConjurDouble::start().unwrap();
    conjur.add_host("reader");
    conjur.set("v", "value");
    conjur.allow_read("host:reader", "v");
    let token = conjur.token("host/reader");
    (conjur, token)
}

#[test]
fn a_fault_meets_the_requests_it_is_for_and_no_others() {
    let (conjur, token) = with_value();
    let mut client = Client::new(&conjur);
    let busy = Answer::json(503, "{}").with_header("Retry-After", "1");
    conjur.fault_next(Kind::Secret, Fault::Answer(busy.clone()));
    conjur.fault_next("/whoami", Fault::Answer(Answer::new(502)));
    assert_eq!(client.get("/authenticators", &token).status, 200);
    assert_eq!(client.get("/whoami", &token).status, 502);
    let answer = client.get(READ, &token);
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(client.get(READ, &token).status, 200);
    conjur.fault_always(Where::Anywhere, Fault::Answer(busy));
    for _ in 0..3 {
        assert_eq!(client.get("/whoami", &token).status, 503);
    }
    conjur.clear_faults();
    assert_eq!(client.get("/whoami", &token).status, 200);
    let statuses: Vec<_> = conjur
        .requests()
        .iter()
        .map(|it| it.status.unwrap())
        .collect();
    assert_eq!(statuses, [200, 502, 503, 200, 503, 503, 503, 200]);
}

#[test]
fn an_answer_that_is_held_is_of_the_moment_at_which_it_was_asked_for() {
    let (conjur, token) = with_value();
    let (gate, token) = (Gate::new(), token.as_str());
    conjur.fault_next(Kind::Secret, Fault::Held(gate.clone()));
    std::thread::scope(|scope| {
        let mut client = Client::new(&conjur);
        let early = scope.spawn(move || client.get(READ, token).text().to_owned());
        assert!(conjur.wait_for_answers(Kind::Secret, 1, PATIENCE));
        conjur.set("v", "changed");
        gate.open();
        assert_eq!(early.join().unwrap(), "value");
    });
}

#[test]
fn a_late_answer_was_asked_for_at_once() {
    let (conjur, token) = with_value();
    let token = token.as_str();
    conjur.fault_next(Kind::Secret, Fault::Late(Duration::from_millis(200)));
    std::thread::scope(|scope| {
        let mut client = Client::new(&conjur);
        let late = scope.spawn(move || client.get(READ, token).text().to_owned());
        assert!(conjur.wait_for_answers(Kind::Secret, 1, PATIENCE));
        conjur.set("v", "changed");
        assert_eq!(late.join().unwrap(), "value");
    });
}

#[test]
fn a_delayed_request_is_looked_at_after_the_delay() {
    let (conjur, token) = with_value();
    let token = token.as_str();
    let delay = Duration::from_secs(1);
    conjur.fault_next(Kind::Secret, Fault::Delay(delay));
    std::thread::scope(|scope| {
        let mut client = Client::new(&conjur);
        let started = Instant::now();
        let delayed = scope.spawn(move || client.get(READ, token).text().to_owned());
        assert!(conjur.wait_for(Kind::Secret, 1, PATIENCE));
        conjur.set("v", "changed");
        // On a machine that stood still for a while the request may have been looked at before.
        let in_time = started.elapsed() < delay;
        let answer = delayed.join().unwrap();
        assert!(started.elapsed() >= delay);
        assert!(answer == "changed" || !in_time, "{answer}");
    });
}

#[test]
fn a_connection_is_closed_or_cut_or_written_over() {
    let (conjur, token) = with_value();
    let authorization = header(&token);
    let headers = [("Authorization", authorization.as_str())];
    for (fault, kind) in [
        (Fault::Close, ErrorKind::UnexpectedEof),
        (Fault::Truncate(2), ErrorKind::UnexpectedEof),
        (
            Fault::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour".to_vec()),
            ErrorKind::UnexpectedEof,
        ),
    ] {
        let mut client = Client::new(&conjur);
        let shown = format!("{fault:?}");
        conjur.fault_next(Kind::Secret, fault);
        let error = client.try_ask("GET", READ, &headers, b"").unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}");
    }
    assert_eq!(Client::new(&conjur).get(READ, &token).text(), "value");
}

#[test]
fn what_hangs_ends_with_the_server() {
    let (conjur, token) = with_value();
    conjur.fault_next(Kind::Secret, Fault::Hang);
    conjur.fault_next(Kind::Whoami, Fault::Delay(Duration::from_secs(3600)));
    conjur.fault_next(Kind::Root, Fault::Held(Gate::new()));
    std::thread::scope(|scope| {
        let mut waiting = Vec::new();
        for target in [READ, "/whoami", "/"] {
            let (mut client, authorization) = (Client::new(&conjur), header(&token));
            waiting.push(scope.spawn(move || {
                let headers = [("Authorization", authorization.as_str())];
                client.try_ask("GET", target, &headers, b"").is_err()
            }));
        }
        for kind in [Kind::Secret, Kind::Whoami, Kind::Root] {
            assert!(conjur.wait_for(kind, 1, PATIENCE));
        }
        conjur.stop();
        assert!(waiting.into_iter().all(|it| it.join().unwrap()));
    });
    assert!(conjur.wait_for_open_connections(0, PATIENCE));
}

#[test]
fn a_black_hole_swallows_what_is_open_and_what_is_new() {
    let (conjur, token) = with_value();
    let mut open = Client::new(&conjur);
    assert_eq!(open.get(READ, &token).status, 200);
    conjur.set_black_hole(true);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let authorization = header(&token);
            let headers = [("Authorization", authorization.as_str())];
            open.try_ask("GET", READ, &headers, b"").is_err()
        });
        let connecting = scope.spawn(|| Client::with_certificate(&conjur, None).is_err());
        assert!(conjur.wait_for(Kind::Secret, 2, PATIENCE));
        assert!(conjur.wait_for_open_connections(2, PATIENCE));
        conjur.set_black_hole(false);
        assert_eq!(Client::new(&conjur).get(READ, &token).text(), "value");
        conjur.drop_connections();
        assert!(asked.join().unwrap() && connecting.join().unwrap());
    });
}
