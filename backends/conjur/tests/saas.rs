//! Batches as Conjur Cloud and its Edge have them: each id is answered for itself.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Gate, Kind, Prefix};
use secret_resolver::{ErrorKind, Resolver, Secret};
use secret_resolver_conjur::ConjurBackend;

const ROLE: &str = "host:apps/reader";

fn saas(server: &ConjurDouble) -> Resolver {
    server.set_saas(true);
    server.set_prefix(Prefix::Required);
    let target = target(server, by_key(server)).with_api_prefix();
    let builder = ConjurBackend::builder(target).with_saas_batches();
    let backend = builder.with_alias("comma", "a,b").build().unwrap();
    Resolver::builder(backend).with_attempts(1).build().unwrap()
}

fn names(number: usize) -> Vec<String> {
    (0..number).map(|number| format!("bulk/{number}")).collect()
}

/// What these names are answered while one read is under way before them.
async fn together(
    server: &ConjurDouble,
    resolver: &Resolver,
    names: &[String],
) -> Vec<Result<Secret, secret_resolver::Error>> {
    let gate = Gate::new();
    server.fault_next(Kind::Secret, Fault::Held(gate.clone()));
    let (first, asked) = (resolver.clone(), resolver.clone());
    let first = tokio::spawn(async move { first.get("first").await });
    assert!(server.wait_for(Kind::Secret, 1, SECOND * 20));
    let (names, number) = (names.to_vec(), names.len());
    let batch = tokio::spawn(async move { asked.get_many(&names).await });
    let shown = format!("waiting: {number},");
    for _ in 0..20_000 {
        if format!("{resolver:#?}").contains(&shown) {
            break;
        }
        tokio::time::sleep(SECOND / 1000).await;
    }
    gate.open();
    drop(first.await.unwrap().unwrap());
    batch.await.unwrap()
}

#[test]
fn two_hundred_and_fifty_names_of_the_service_are_one_request() {
    let server = server(&[("first", b"1"), ("a,b", b"comma")]);
    let mut all = names(249);
    for id in &all {
        store(&server, id, id.as_bytes());
    }
    all.push("comma".to_owned());
    let resolver = saas(&server);
    let answers = block_on(together(&server, &resolver, &all));
    for (name, answer) in all.iter().zip(answers) {
        let value = if name == "comma" { "comma" } else { name };
        assert_eq!(bytes(answer), value.as_bytes());
    }
    let asked = (server.count(Kind::Secret), server.count(Kind::SaasBatch));
    assert_eq!((asked, server.count(Kind::Batch)), ((1, 1), 0));
    // Through the base path, and with the credential where it belongs.
    let sent = server.requests();
    assert!(
        sent.iter()
            .all(|sent| sent.request.target.starts_with("/api/"))
    );
}

#[test]
fn what_the_service_does_not_give_is_asked_alone_and_has_the_error_that_it_has_alone() {
    let server = server(&[("first", b"1")]);
    let all = names(6);
    for id in &all {
        store(&server, id, id.as_bytes());
    }
    server.delete("bulk/1");
    server.revoke_all(ROLE, "bulk/2");
    server.revoke_all(ROLE, "bulk/3");
    server.grant(ROLE, &["read"], "bulk/3");
    // It cannot stand in JSON.
    server.set("bulk/4", [0xff, 0]);
    let resolver = saas(&server);
    let answers = block_on(together(&server, &resolver, &all));
    let kinds: Vec<_> = answers
        .into_iter()
        .map(|answer| {
            answer
                .map(|secret| bytes(Ok(secret)))
                .map_err(|error| error.kind())
        })
        .collect();
    assert_eq!(
        kinds,
        [
            Ok(b"bulk/0".to_vec()),
            Err(ErrorKind::NotFound),
            Err(ErrorKind::NotFound),
            Err(ErrorKind::Denied),
            Ok(vec![0xff, 0]),
            Ok(b"bulk/5".to_vec()),
        ]
    );
    assert_eq!(server.count(Kind::SaasBatch), 1);
}

#[test]
fn a_service_that_answers_other_ids_is_believed_for_none() {
    for body in [
        r#"{"secrets":[]}"#,
        r#"{"secrets":[{"id":"bulk/0","value":"a","status":200}]}"#,
        r#"{"secrets":[{"id":"bulk/0","value":"a","status":200},{"id":"bulk/0","value":"b","status":200}]}"#,
        r#"{"secrets":[{"id":"bulk/0","value":"a","status":200},{"id":"bulk/1","value":"b","status":200},{"id":"bulk/0","value":"c","status":200}]}"#,
        r#"{"secrets":[{"id":"bulk/0","value":"a","status":200},{"id":"other","value":"b","status":200}]}"#,
        r#"{"secrets":[["bulk/0","a",200],["bulk/1","b",200]]}"#,
        r#"{"bulk/0":"a","bulk/1":"b"}"#,
        "<html></html>",
    ] {
        let server = server(&[("first", b"1"), ("bulk/0", b"0"), ("bulk/1", b"1")]);
        let resolver = saas(&server);
        server.fault_always(Kind::SaasBatch, Fault::Answer(Answer::json(200, body)));
        let answers = block_on(together(&server, &resolver, &names(2)));
        for answer in answers {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Malformed, "{body}");
        }
    }
}

#[test]
fn a_server_without_batches_of_this_kind_says_what_to_change() {
    let server = server(&[("first", b"1"), ("bulk/0", b"0"), ("bulk/1", b"1")]);
    let resolver = saas(&server);
    server.fault_always(Kind::SaasBatch, Fault::Answer(Answer::new(404)));
    let answers = block_on(together(&server, &resolver, &names(2)));
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("with_saas_batches"), "{error}");
    }
}
