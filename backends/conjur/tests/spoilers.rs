//! Names that fail in a batch, and what becomes of the others: each has the answer that it has alone.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Kind, Prefix};
use secret_resolver::{Error, ErrorKind, Resolver, Secret};
use secret_resolver_conjur::ConjurBackend;

const ROLE: &str = "host:apps/reader";

/// One that goes first, and then so many together.
fn many(number: usize) -> (ConjurDouble, Vec<String>) {
    let names: Vec<_> = (0..=number)
        .map(|number| format!("bulk/{number}"))
        .collect();
    let server = server(&[]);
    for name in &names {
        store(&server, name, name.as_bytes());
    }
    (server, names)
}

fn saas(server: &ConjurDouble) -> ConjurBackend {
    server.set_saas(true);
    server.set_prefix(Prefix::Required);
    let target = target(server, by_key(server)).with_api_prefix();
    let builder = ConjurBackend::builder(target).with_saas_batches();
    builder.with_body_limit(100_000).build().unwrap()
}

async fn together(
    server: &ConjurDouble,
    resolver: &Resolver,
    names: &[String],
) -> Vec<Result<Secret, Error>> {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    get_together(server, resolver, &names).await
}

/// The kinds of what failed, with the names; everything else has its value.
fn failed(names: &[String], answers: Vec<Result<Secret, Error>>) -> Vec<(&str, ErrorKind)> {
    let mut failed = Vec::new();
    for (name, answer) in names.iter().zip(answers) {
        match answer {
            Ok(secret) => assert_eq!(bytes(Ok(secret)), name.as_bytes()),
            Err(error) => failed.push((&**name, error.kind())),
        }
    }
    failed
}

#[test]
fn a_slow_store_with_a_few_bad_names_answers_all_others() {
    for bad in [1, 3] {
        let (server, names) = many(160);
        let all: Vec<_> = (0..bad)
            .map(|number| format!("bulk/{}", 40 * number + 20))
            .collect();
        for name in &all {
            server.revoke_all(ROLE, name);
        }
        // A search of ten requests takes longer than an attempt.
        server.fault_always(Kind::Batch, Fault::Delay(SECOND / 4));
        server.fault_always(Kind::Secret, Fault::Delay(SECOND / 4));
        let resolver = resolver(&server);
        let answers = block_on(together(&server, &resolver, &names));
        let wanted: Vec<_> = all
            .iter()
            .map(|name| (&**name, ErrorKind::NotFound))
            .collect();
        assert_eq!(failed(&names, answers), wanted);
    }
}

#[test]
fn a_bad_name_that_leads_and_hangs_holds_up_no_other() {
    // The second of these leads the batch.
    for bad in ["bulk/1", "bulk/9"] {
        let (server, names) = many(20);
        server.revoke_all(ROLE, bad);
        let alone = format!("/secrets/myorg/variable/{}", bad.replace('/', "%2F"));
        server.fault_always(alone.as_str(), Fault::Hang);
        let resolver = resolver(&server);
        block_on(async {
            let asked: Vec<_> = names.iter().map(String::as_str).collect();
            let gate = hold(&server, Kind::Secret);
            let mut gets = Vec::new();
            for name in names.clone() {
                let resolver = resolver.clone();
                let get = async move { (resolver.get(&name).await, resolver.clock().now()) };
                gets.push(tokio::spawn(get));
            }
            until("all wait", || {
                format!("{resolver:#?}").contains("waiting: 20,")
            })
            .await;
            gate.open();
            let begun = resolver.clock().now();
            for (name, get) in asked.iter().zip(gets) {
                let (answer, ended) = get.await.unwrap();
                match *name == bad {
                    true => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout),
                    false => {
                        assert_eq!(bytes(answer), name.as_bytes());
                        assert!(ended.since(begun) < SECOND * 2, "{name}");
                    }
                }
            }
        });
    }
}

#[test]
fn many_bad_names_at_a_store_of_medium_speed_take_no_time_from_the_others() {
    for (milliseconds, bad) in [(100, 5), (190, 5), (125, 29), (190, 20)] {
        let (server, names) = many(199);
        let all: Vec<_> = (0..bad)
            .map(|number| format!("bulk/{}", 6 * number + 3))
            .collect();
        for (number, name) in all.iter().enumerate() {
            match number % 2 {
                0 => server.revoke_all(ROLE, name),
                _ => server.delete(name),
            }
        }
        let delay = SECOND * milliseconds / 1000;
        server.fault_always(Kind::Batch, Fault::Delay(delay));
        server.fault_always(Kind::Secret, Fault::Delay(delay));
        let resolver = resolver(&server);
        let answers = block_on(together(&server, &resolver, &names));
        let wanted: Vec<_> = all
            .iter()
            .map(|name| (&**name, ErrorKind::NotFound))
            .collect();
        assert_eq!(
            failed(&names, answers),
            wanted,
            "{milliseconds} ms, {bad} bad"
        );
        // No more than one by one, and a few.
        let asked = server.count(Kind::Secret) + server.count(Kind::Batch);
        assert!(asked <= names.len() + 30, "{asked}");
    }
}

#[test]
fn an_answer_that_came_before_the_store_fell_silent_is_not_lost() {
    let (server, names) = many(3);
    server.revoke_all(ROLE, "bulk/3");
    let resolver = Resolver::builder(backend(&server)).with_attempts(1);
    let resolver = resolver.build().unwrap();
    // It is silent when the bad one is asked alone.
    server.fault_always("/secrets/myorg/variable/bulk%2F3", Fault::Hang);
    let answers = block_on(together(&server, &resolver, &names));
    assert_eq!(failed(&names, answers), [("bulk/3", ErrorKind::Timeout)]);
}

#[test]
fn the_error_of_a_bad_name_is_the_one_that_it_has_alone_with_all_tries_and_guards() {
    // One failure that passes, and then the denial.
    let (server, names) = many(3);
    server.revoke_all(ROLE, "bulk/2");
    server.grant(ROLE, &["read"], "bulk/2");
    let alone = "/secrets/myorg/variable/bulk%2F2";
    server.fault_next(alone, Fault::Answer(Answer::new(503)));
    let answers = block_on(together(&server, &resolver(&server), &names));
    assert_eq!(failed(&names, answers), [("bulk/2", ErrorKind::Denied)]);

    // What the store asks for by it counts for all.
    let (server, names) = many(3);
    server.revoke_all(ROLE, "bulk/2");
    let wait = Answer::new(429).with_header("Retry-After", "20");
    server.fault_always(alone, Fault::Answer(wait));
    let resolver = resolver(&server);
    let answers = block_on(together(&server, &resolver, &names));
    assert_eq!(failed(&names, answers), [("bulk/2", ErrorKind::Throttled)]);
    let status = resolver.status();
    let failure = status.stores[0].endpoints[0].last_failure.as_ref();
    assert_eq!(
        failure.map(|failure| failure.kind),
        Some(ErrorKind::Throttled)
    );
}

#[test]
fn the_error_of_the_name_that_leads_is_no_other_names() {
    for names in [
        ["bulk/0", "bulk/1", "bulk/2"],
        ["bulk/0", "bulk/2", "bulk/1"],
    ] {
        let (server, _) = many(2);
        // More than an answer may have, so each of the two is asked alone.
        server.set("bulk/1", vec![7; 2 << 20]);
        let names = names.map(str::to_owned);
        let answers = block_on(together(&server, &resolver(&server), &names));
        assert_eq!(failed(&names, answers), [("bulk/1", ErrorKind::Malformed)]);
    }
}

#[test]
fn large_values_and_a_bad_name_of_the_service_come_in_more_answers() {
    let (server, names) = many(30);
    let large = |name: &str| [name.as_bytes(), &[b'x'; 8000]].concat();
    for name in &names {
        server.set(name, large(name));
    }
    server.revoke_all(ROLE, "bulk/17");
    let resolver = Resolver::builder(saas(&server)).build().unwrap();
    let answers = block_on(together(&server, &resolver, &names));
    for (name, answer) in names.iter().zip(answers) {
        match &**name {
            "bulk/17" => assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound),
            _ => assert_eq!(bytes(answer), large(name)),
        }
    }
    assert!(
        server.count(Kind::Secret) <= 4,
        "{}",
        server.count(Kind::Secret)
    );
}
