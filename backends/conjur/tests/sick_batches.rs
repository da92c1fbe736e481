//! Batches that do not come back as they should: each name still has the answer that it would have alone.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Kind};
use secret_resolver::{ErrorKind, Resolver};
use secret_resolver_conjur::ConjurBackend;

const NAMES: [&str; 4] = ["lead", "a", "b", "c"];

fn four() -> ConjurDouble {
    let values = NAMES.map(|name| (name, name.as_bytes()));
    server(&values)
}

/// An answer to a batch, which declares base64 or does not.
fn batch(body: &str, encoding: Option<&str>) -> Fault {
    let answer = Answer::json(200, body);
    Fault::Answer(match encoding {
        Some(encoding) => answer.with_header("Content-Encoding", encoding),
        None => answer,
    })
}

#[test]
fn values_that_are_too_large_for_one_answer_are_read_in_smaller_batches() {
    // 40 of 3 kB are a third more in base64, and more than an answer may have here.
    let names: Vec<_> = (0..40).map(|number| format!("large/{number}")).collect();
    let value = vec![7; 3000];
    let server = server(&[]);
    for name in &names {
        store(&server, name, &value);
    }
    let backend = builder(&server).with_body_limit(100_000).build().unwrap();
    let resolver = Resolver::builder(backend).build().unwrap();
    block_on(async {
        let borrowed: Vec<_> = names.iter().map(String::as_str).collect();
        for answer in get_together(&server, &resolver, &borrowed).await {
            assert_eq!(bytes(answer).len(), value.len());
        }
    });
    let requests = server.count(Kind::Secret) + server.count(Kind::Batch);
    assert!(requests <= 12, "{requests}");
}

#[test]
fn a_value_over_the_bound_fails_alone() {
    let server = four();
    server.set("b", vec![7; 101]);
    let backend: ConjurBackend = builder(&server).with_value_limit(100).build().unwrap();
    let resolver = Resolver::builder(backend).build().unwrap();
    block_on(async {
        let answers = get_together(&server, &resolver, &NAMES).await;
        for (name, answer) in NAMES.iter().zip(answers) {
            match *name {
                "b" => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Overloaded),
                _ => assert_eq!(bytes(answer), name.as_bytes()),
            }
        }
    });
}

#[test]
fn base64_that_is_not_declared_is_the_value_and_what_is_declared_and_is_none_fails_alone() {
    let ids = |texts: [&str; 3]| {
        let [a, b, c] = texts;
        format!(
            r#"{{"myorg:variable:c":"{c}","myorg:variable:\u0061":"{a}","myorg:variable:b":"{b}"}}"#
        )
    };
    for (body, encoding, expected) in [
        (
            ids(["YQ==", "Yg==", "Yw=="]),
            Some("base64"),
            [Some("a"), Some("b"), Some("c")],
        ),
        (
            ids(["YQ==", "Yg==", "Yw=="]),
            None,
            [Some("YQ=="), Some("Yg=="), Some("Yw==")],
        ),
        (
            ids(["YQ==\\n", "Yg", "Y*=="]),
            Some("base64"),
            [Some("a"), None, None],
        ),
        (
            ids(["YQ==", "\\ud800", "Yw=="]),
            Some("base64"),
            [Some("a"), None, Some("c")],
        ),
        // Conjur stores no empty value.
        (
            ids(["", "\\n", "Yw=="]),
            Some("base64"),
            [None, None, Some("c")],
        ),
    ] {
        let server = four();
        let resolver = resolver(&server);
        server.fault_next(Kind::Batch, batch(&body, encoding));
        block_on(async {
            let answers = get_together(&server, &resolver, &NAMES).await;
            assert!(answers[0].is_ok());
            for (answer, expected) in answers.into_iter().skip(1).zip(expected) {
                match expected {
                    Some(value) => assert_eq!(bytes(answer), value.as_bytes(), "{body}"),
                    None => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Malformed, "{body}"),
                }
            }
        });
    }
}

#[test]
fn an_answer_that_is_no_batch_is_an_error_for_each_name_and_a_value_for_none() {
    let not_utf8 = [b"{\"myorg:variable:\xff\":\"YQ==\"}".to_vec()];
    let cut = r#"{"myorg:variable:a":"YQ==","myorg:variable:b":"Yg==","myorg:var"#;
    let deep = format!(r#"{{"myorg:variable:a":{}}}"#, "[".repeat(200_000));
    let texts = [
        "",
        "null",
        "[]",
        cut,
        &deep,
        r#"{"myorg:variable:a":1,"myorg:variable:a":2,"myorg:variable:b":"Yg==","myorg:variable:c":"Yw=="}"#,
    ];
    for body in texts
        .map(|text| text.as_bytes().to_vec())
        .iter()
        .chain(&not_utf8)
    {
        let server = four();
        let resolver = Resolver::builder(backend(&server))
            .with_attempts(1)
            .build()
            .unwrap();
        let answer = Answer::json(200, "").with_body(body);
        server.fault_always(
            Kind::Batch,
            Fault::Answer(answer.with_header("Content-Encoding", "base64")),
        );
        block_on(async {
            let answers = get_together(&server, &resolver, &NAMES).await;
            for answer in answers.into_iter().skip(1) {
                assert_eq!(answer.unwrap_err().kind(), ErrorKind::Malformed);
            }
        });
    }
}

#[test]
fn a_batch_that_meets_an_outage_is_one_outage_and_is_tried_again() {
    for fault in [answer(500, ""), answer(503, ""), Fault::Close] {
        let server = four();
        let resolver = resolver(&server);
        server.fault_next(Kind::Batch, fault);
        block_on(async {
            let answers = get_together(&server, &resolver, &NAMES).await;
            for (name, answer) in NAMES.iter().zip(answers) {
                assert_eq!(bytes(answer), name.as_bytes());
            }
        });
        assert_eq!(server.count(Kind::Secret), 1);
    }
}

#[test]
fn an_outage_while_a_bad_id_is_looked_for_leaves_each_name_its_own_answer() {
    let server = four();
    server.revoke_all("host:apps/reader", "b");
    let resolver = resolver(&server);
    block_on(async {
        // The first batch is spoiled; what follows it meets the outage.
        server.fault_next(Kind::Batch, answer(403, ""));
        server.fault_next(Kind::Batch, answer(500, ""));
        let answers = get_together(&server, &resolver, &NAMES).await;
        for (name, answer) in NAMES.iter().zip(answers) {
            match *name {
                "b" => assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound),
                _ => assert_eq!(bytes(answer), name.as_bytes()),
            }
        }
    });
}

#[test]
fn a_batch_is_answered_and_searched_by_another_endpoint_where_the_first_is_sick() {
    for fault in [
        answer(503, ""),
        answer(404, PAGE),
        answer(302, ""),
        Fault::Close,
    ] {
        let first = four();
        first.delete("b");
        let second = first.follower().unwrap();
        let servers = [first, second];
        let resolver = Resolver::builder(backend_of(&servers)).build().unwrap();
        block_on(async {
            let gate = hold(&servers[0], "/secrets/");
            servers[0].fault_always(Kind::Batch, fault.clone());
            let asked = resolver.clone();
            let batch = tokio::spawn(async move { asked.get_many(&NAMES).await });
            until("all wait", || {
                format!("{resolver:#?}").contains("waiting: 3,")
            })
            .await;
            gate.open();
            for (name, answer) in NAMES.iter().zip(batch.await.unwrap()) {
                match *name {
                    "b" => assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound),
                    _ => assert_eq!(bytes(answer), name.as_bytes(), "{fault:?}"),
                }
            }
        });
    }
}

#[test]
fn a_token_that_dies_in_the_middle_of_a_search_costs_one_login() {
    let server = four();
    server.delete("b");
    let resolver = resolver(&server);
    block_on(async {
        let gate = hold(&server, "/secrets/");
        // Of the first batch, when the names are there.
        let searched = hold(&server, Kind::Batch);
        let asked = resolver.clone();
        let batch = tokio::spawn(async move { asked.get_many(&NAMES).await });
        until("all wait", || {
            format!("{resolver:#?}").contains("waiting: 3,")
        })
        .await;
        gate.open();
        until("the batch was asked for", || server.count(Kind::Batch) == 1).await;
        server.advance(481 * SECOND);
        searched.open();
        for (name, answer) in NAMES.iter().zip(batch.await.unwrap()) {
            match *name {
                "b" => assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound),
                _ => assert_eq!(bytes(answer), name.as_bytes()),
            }
        }
    });
    assert_eq!(server.count(Kind::Authenticate), 2);
}

#[test]
fn a_404_that_names_another_id_is_believed_for_none() {
    for named in [
        "lead",
        "other",
        "",
        "a is empty or not found. CONJ00076E Variable myorg:variable:b",
    ] {
        let server = four();
        let resolver = resolver(&server);
        let said = format!("CONJ00076E Variable myorg:variable:{named} is empty or not found.");
        let body = format!(r#"{{"error":{{"code":"not_found","message":"{said}"}}}}"#);
        server.fault_next(Kind::Batch, Fault::Answer(Answer::json(404, &body)));
        block_on(async {
            let answers = get_together(&server, &resolver, &NAMES).await;
            for (name, answer) in NAMES.iter().zip(answers) {
                assert_eq!(bytes(answer), name.as_bytes(), "{named}");
            }
        });
    }
}
