//! Many names in few requests, each failing alone, through the assembled resolver.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Gate, Kind, Version};
use secret_resolver::testing::ManualClock;
use secret_resolver::{Error, ErrorKind, Resolver, Secret};

/// As the targets say: 37 bytes each in the URL, `myorg%3Avariable%3A` included.
fn name(number: usize) -> String {
    format!("bulk/{number:011}")
}

const NAMES: usize = 200;

fn bulk() -> ConjurDouble {
    let server = server(&[]);
    for number in 0..NAMES {
        let in_url = "myorg%3Avariable%3A".len() + name(number).replace('/', "%2F").len();
        assert_eq!(in_url, 37);
        store(&server, &name(number), format!("value {number}").as_bytes());
    }
    server
}

/// A backend on a clock that stands still, so that a slow machine cuts no search short.
fn patient(server: &ConjurDouble) -> Resolver {
    let backend = builder(server).with_clock(ManualClock::strict());
    Resolver::builder(backend.build().unwrap()).build().unwrap()
}

/// Lets the first read wait until all the others are there.
fn held(server: &ConjurDouble) -> Gate {
    let gate = Gate::new();
    server.fault_next("/secrets/", Fault::Held(gate.clone()));
    gate
}

async fn wait_for(resolver: &Resolver, waiting: usize) {
    let shown = format!("waiting: {waiting},");
    for _ in 0..20_000 {
        if format!("{resolver:#?}").contains(&shown) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("not {waiting} wait");
}

fn requests(server: &ConjurDouble) -> usize {
    server.count(Kind::Secret) + server.count(Kind::Batch)
}

async fn get_all(server: &ConjurDouble, resolver: &Resolver) -> Vec<Result<Secret, Error>> {
    get_all_beside(server, resolver, 0).await
}

/// The same, where so many go alone.
async fn get_all_beside(
    server: &ConjurDouble,
    resolver: &Resolver,
    alone: usize,
) -> Vec<Result<Secret, Error>> {
    let gate = held(server);
    let asked = resolver.clone();
    let names: Vec<_> = (0..NAMES).map(name).collect();
    let batch = tokio::spawn(async move { asked.get_many(&names).await });
    wait_for(resolver, NAMES - 1 - alone).await;
    gate.open();
    batch.await.unwrap()
}

#[test]
fn two_hundred_names_are_three_requests() {
    let server = bulk();
    let resolver = resolver(&server);
    block_on(async {
        for (number, value) in get_all(&server, &resolver).await.into_iter().enumerate() {
            assert_eq!(bytes(value), format!("value {number}").as_bytes());
        }
        assert_eq!(requests(&server), 3);
    });
    let longest = server
        .requests()
        .iter()
        .map(|logged| logged.request.target.len())
        .max();
    assert!(longest <= Some(6 << 10), "{longest:?}");
}

#[test]
fn one_denied_among_two_hundred_costs_ten_requests_and_fails_alone() {
    for version in [Version::V1_24, Version::V1_22] {
        for hidden in [true, false] {
            let server = bulk();
            server.set_version(version);
            let bad = 101;
            server.revoke_all("host:apps/reader", &name(bad));
            if !hidden {
                server.grant("host:apps/reader", &["read"], &name(bad));
            }
            let resolver = patient(&server);
            block_on(async {
                let answers = get_all(&server, &resolver).await;
                for (number, answer) in answers.into_iter().enumerate() {
                    match (number == bad, hidden) {
                        (false, _) => {
                            assert_eq!(bytes(answer), format!("value {number}").as_bytes())
                        }
                        // As it is when it is asked for alone.
                        (true, true) => assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound),
                        (true, false) => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Denied),
                    }
                }
            });
            assert!(requests(&server) <= 3 + 10, "{}", requests(&server));
            // For a while it goes alone at once.
            let before = requests(&server);
            let _ = resolver.invalidator().invalidate_all().unwrap();
            let answers = block_on(get_all_beside(&server, &resolver, 1));
            assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
            let more = requests(&server) - before;
            assert!(more <= 4, "{more}");
        }
    }
}

#[test]
fn names_that_are_missing_are_found_by_the_answer_itself() {
    let server = bulk();
    for missing in [3, 50, 120] {
        server.delete(&name(missing));
    }
    let resolver = patient(&server);
    block_on(async {
        let answers = get_all(&server, &resolver).await;
        for (number, answer) in answers.into_iter().enumerate() {
            match number {
                3 | 50 | 120 => assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound),
                _ => drop(answer.unwrap()),
            }
        }
    });
    assert!(requests(&server) <= 3 + 7, "{}", requests(&server));
}

#[test]
fn many_that_may_not_be_read_leave_the_others_their_answers() {
    let server = bulk();
    for number in (0..NAMES).step_by(10) {
        server.revoke_all("host:apps/reader", &name(number));
    }
    let resolver = resolver(&server);
    block_on(async {
        let names: Vec<_> = (0..NAMES).map(name).collect();
        let answers = resolver.get_many(&names).await;
        for (number, answer) in answers.into_iter().enumerate() {
            match number % 10 {
                0 => assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound),
                _ => assert_eq!(bytes(answer), format!("value {number}").as_bytes()),
            }
        }
    });
}

#[test]
fn two_hundred_callers_are_four_requests_at_most() {
    let server = bulk();
    let resolver = resolver(&server);
    block_on(async {
        let gate = held(&server);
        let gets: Vec<_> = (0..NAMES)
            .map(|number| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.get(&name(number)).await })
            })
            .collect();
        wait_for(&resolver, NAMES - 1).await;
        gate.open();
        for (number, get) in gets.into_iter().enumerate() {
            assert_eq!(
                bytes(get.await.unwrap()),
                format!("value {number}").as_bytes()
            );
        }
    });
    assert!(requests(&server) <= 4);
}

#[test]
fn a_batch_that_answers_other_ids_is_believed_for_none() {
    for body in [
        r#"{}"#.to_owned(),
        format!(r#"{{"myorg:variable:{}":"YQ=="}}"#, name(0)),
        format!(
            r#"{{"myorg:variable:{}":"YQ==","myorg:variable:other":"YQ=="}}"#,
            name(1)
        ),
        "<html></html>".to_owned(),
    ] {
        let server = bulk();
        let resolver = Resolver::builder(backend(&server))
            .with_attempts(1)
            .build()
            .unwrap();
        block_on(async {
            let gate = held(&server);
            let answer = Answer::json(200, &body).with_header("Content-Encoding", "base64");
            server.fault_always(Kind::Batch, Fault::Answer(answer));
            let asked = resolver.clone();
            let batch =
                tokio::spawn(async move { asked.get_many(&[name(0), name(1), name(2)]).await });
            wait_for(&resolver, 2).await;
            gate.open();
            let answers = batch.await.unwrap();
            assert!(answers[0].is_ok());
            for answer in &answers[1..] {
                assert_eq!(
                    answer.as_ref().unwrap_err().kind(),
                    ErrorKind::Malformed,
                    "{body}"
                );
            }
            server.clear_faults();
        });
    }
}

#[test]
fn a_token_that_dies_before_a_batch_costs_one_login() {
    let server = bulk();
    server.set_token_life(std::time::Duration::from_secs(300));
    let resolver = resolver(&server);
    block_on(async {
        drop(resolver.get(&name(0)).await.unwrap());
        server.advance(std::time::Duration::from_secs(301));
        let names: Vec<_> = (1..NAMES).map(name).collect();
        for answer in resolver.get_many(&names).await {
            drop(answer.unwrap());
        }
    });
    assert_eq!(server.count(Kind::Authenticate), 2);
}

#[test]
fn an_id_with_a_comma_and_a_dynamic_secret_go_alone() {
    let server = server(&[
        ("a,b", b"comma"),
        ("plain/1", b"1"),
        ("plain/2", b"2"),
        ("plain/3", b"3"),
    ]);
    server.add_dynamic("data/dynamic/db", std::time::Duration::from_secs(60));
    server.allow_read("host:apps/reader", "data/dynamic/db");
    let backend = builder(&server).with_alias("comma", "a,b").build().unwrap();
    let resolver = Resolver::builder(backend).build().unwrap();
    block_on(async {
        let gate = held(&server);
        let asked = resolver.clone();
        let names = ["plain/1", "comma", "data/dynamic/db", "plain/2", "plain/3"];
        let batch = tokio::spawn(async move { asked.get_many(&names).await });
        wait_for(&resolver, 2).await;
        gate.open();
        let answers: Vec<_> = batch.await.unwrap().into_iter().map(bytes).collect();
        assert_eq!(
            [&answers[0], &answers[1], &answers[3], &answers[4]],
            [&b"1"[..], b"comma", b"2", b"3"]
        );
    });
    assert_eq!(
        (server.count(Kind::Secret), server.count(Kind::Batch)),
        (3, 1)
    );
}
