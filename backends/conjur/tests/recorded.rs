//! Every answer that was recorded from a running Conjur is fed to the client, and the outcome is the one that the tables name.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Kind};
use secret_resolver::backend::{NameRef, Request};
use secret_resolver::{ErrorKind, Resolver, SecretResolver, Version};
use secret_resolver_conjur::ConjurBackend;
use serde_json::Value;

struct Exchange {
    name: String,
    method: String,
    target: String,
    is_conditional: bool,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn exchanges(topic: &str) -> Vec<Exchange> {
    let path = format!(
        "{}/tests/transcripts/{topic}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let exchange = |exchange: &Value| {
        let (request, response) = (&exchange["request"], &exchange["response"]);
        let headers = response["headers"].as_object();
        Exchange {
            name: text(&exchange["name"]),
            method: text(&request["method"]),
            target: text(&request["target"]),
            is_conditional: request["headers"].get("If-None-Match").is_some(),
            status: response["status"].as_u64().unwrap() as u16,
            headers: headers
                .into_iter()
                .flatten()
                .filter(|(name, _)| {
                    !["Content-Length", "Transfer-Encoding"].contains(&name.as_str())
                })
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            body: match (&response["body"], &response["body_base64"]) {
                (Value::String(body), _) => body.clone().into_bytes(),
                (_, Value::String(body)) => BASE64_STANDARD.decode(body).unwrap(),
                _ => Vec::new(),
            },
        }
    };
    recorded["exchanges"]
        .as_array()
        .unwrap()
        .iter()
        .map(exchange)
        .collect()
}

impl Exchange {
    fn answer(&self) -> Fault {
        let answer = Answer::new(self.status).with_body(&self.body[..]);
        let with =
            |answer: Answer, (name, value): &(String, String)| answer.with_header(name, value);
        Fault::Answer(self.headers.iter().fold(answer, with))
    }

    /// What the tables say of a read that is answered so.
    fn kind_of_read(&self) -> Option<ErrorKind> {
        Some(match self.status {
            200 => return None,
            304 if self.is_conditional => return None,
            401 => ErrorKind::Unauthenticated,
            403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            400 | 422 => ErrorKind::Misconfigured,
            500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Malformed,
        })
    }
}

fn fed(server: &ConjurDouble, exchange: &Exchange, kind: Kind) {
    server.clear_faults();
    server.fault_next(kind, exchange.answer());
}

#[test]
fn every_recorded_answer_to_a_read_has_the_outcome_of_the_tables() {
    let server = server(&[("v", b"of the double")]);
    let backend = backend(&server);
    let mut fed_ones = 0;
    block_on(async {
        for topic in [
            "04-authorization",
            "05-secret",
            "08-authn-jwt",
            "09-write",
            "10-outage",
        ] {
            let reads = exchanges(topic).into_iter().filter(|exchange| {
                exchange.method == "GET" && exchange.target.starts_with("/secrets/")
            });
            for exchange in reads {
                let what = format!("{topic}: {}", exchange.name);
                fed(&server, &exchange, Kind::Secret);
                let held = Version::tag(b"W/\"held\"");
                let request = Request::new(NameRef::parse("v").unwrap());
                let request = match exchange.is_conditional {
                    true => request.with_held(&held),
                    false => request,
                };
                let answer = backend.resolve(request).await;
                match (exchange.kind_of_read(), answer) {
                    (None, Ok(record)) if exchange.status == 304 => {
                        assert_eq!(record.field_names().count(), 0, "{what}");
                    }
                    (None, Ok(record)) => {
                        assert!(record.version().as_tag().is_some(), "{what}");
                        assert_eq!(bytes(record.into_secret()), exchange.body, "{what}");
                    }
                    (Some(kind), Err(error)) => assert_eq!(error.kind(), kind, "{what}: {error}"),
                    (expected, answer) => panic!("{what}: {expected:?}, but {answer:?}"),
                }
                fed_ones += 1;
            }
        }
    });
    assert!(fed_ones >= 60, "{fed_ones}");
}

#[test]
fn every_recorded_answer_to_a_batch_has_the_outcome_of_the_tables() {
    let mut fed_ones = 0;
    for topic in ["06-batch", "10-outage", "12-batch-v1.22"] {
        let batches = exchanges(topic).into_iter().filter(|exchange| {
            exchange.method == "GET" && exchange.target.starts_with("/secrets?")
        });
        for exchange in batches {
            let what = format!("{topic}: {}", exchange.name);
            // What the recorded answer has, the client asks for; at least two, or it asks for one.
            let answered: Option<serde_json::Map<String, Value>> = match exchange.status {
                200 => Some(serde_json::from_slice(&exchange.body).unwrap()),
                _ => None,
            };
            let is_base64 = exchange
                .headers
                .iter()
                .any(|(name, value)| name == "Content-Encoding" && value == "base64");
            let ids: Vec<String> = match &answered {
                Some(answered) => answered
                    .keys()
                    .map(|id| id.strip_prefix("myorg:variable:").unwrap().to_owned())
                    .collect(),
                None => vec!["prod/db/nosuch".to_owned(), "prod/db/password".to_owned()],
            };
            if ids.len() < 2 || ids.iter().any(|id| id.contains(',')) {
                continue;
            }
            let server = server(&[("lead", b"lead")]);
            let mut builder = builder(&server);
            for (number, id) in ids.iter().enumerate() {
                store(&server, id, b"of the double");
                builder = builder.with_alias(format!("n/{number}"), id);
            }
            let resolver = Resolver::builder(builder.build().unwrap())
                .with_attempts(1)
                .build()
                .unwrap();
            block_on(async {
                let gate = conjur_double::Gate::new();
                server.fault_next(Kind::Secret, Fault::Held(gate.clone()));
                server.fault_next(Kind::Batch, exchange.answer());
                let names: Vec<_> = std::iter::once("lead".to_owned())
                    .chain((0..ids.len()).map(|number| format!("n/{number}")))
                    .collect();
                let asked = resolver.clone();
                let batch = tokio::spawn(async move { asked.get_many(&names).await });
                let shown = format!("waiting: {},", ids.len());
                while !format!("{resolver:#?}").contains(&shown) {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                gate.open();
                let mut answers = batch.await.unwrap().into_iter();
                assert_eq!(bytes(answers.next().unwrap()), b"lead");
                for (id, answer) in ids.iter().zip(answers) {
                    match (&answered, exchange.status) {
                        (Some(answered), _) => {
                            let text = answered[&format!("myorg:variable:{id}")].as_str().unwrap();
                            let expected = match is_base64 {
                                true => BASE64_STANDARD.decode(text.replace('\n', "")).unwrap(),
                                false => text.as_bytes().to_vec(),
                            };
                            assert_eq!(bytes(answer), expected, "{what}: {id}");
                        }
                        // One spoils it: here the double has both, so each is answered for itself.
                        (None, 403 | 404) => {
                            assert_eq!(bytes(answer), b"of the double", "{what}: {id}")
                        }
                        (None, _) => {
                            let kind = exchange.kind_of_read().unwrap();
                            assert_eq!(answer.unwrap_err().kind(), kind, "{what}: {id}");
                        }
                    }
                }
            });
            fed_ones += 1;
        }
    }
    assert!(fed_ones >= 20, "{fed_ones}");
}

#[test]
fn every_recorded_answer_to_a_login_has_the_outcome_of_the_tables() {
    let mut fed_ones = 0;
    for (topic, part) in [
        ("03-authenticate", "/authenticate"),
        ("08-authn-jwt", "/authenticate"),
        ("10-outage", "/authenticate"),
    ] {
        let logins = exchanges(topic)
            .into_iter()
            .filter(|exchange| exchange.method == "POST" && exchange.target.ends_with(part));
        for mut exchange in logins {
            let what = format!("{topic}: {}", exchange.name);
            let server = server(&[("v", b"x")]);
            // What a server mints is not recorded: a token of the double stands for it.
            let minted = String::from_utf8_lossy(&exchange.body).into_owned();
            if minted.starts_with("{{tokenjson:") {
                exchange.body = server.token(READER).into_bytes();
            } else if minted.starts_with("{{token:") {
                exchange.body = BASE64_STANDARD.encode(server.token(READER)).into_bytes();
            }
            let backend: ConjurBackend = backend(&server);
            fed(&server, &exchange, Kind::Authenticate);
            let kind = match exchange.status {
                200 => None,
                401 | 403 => Some(ErrorKind::Unauthenticated),
                400 | 404 => Some(ErrorKind::Misconfigured),
                500..=599 => Some(ErrorKind::Unavailable),
                other => panic!("{what}: {other}"),
            };
            block_on(async {
                let answer = secret_resolver::SecretResolverExt::get(&backend, "v").await;
                match (kind, answer) {
                    (None, Ok(secret)) => assert_eq!(bytes(Ok(secret)), b"x", "{what}"),
                    (Some(kind), Err(error)) => assert_eq!(error.kind(), kind, "{what}: {error}"),
                    (expected, answer) => panic!("{what}: {expected:?}, but {answer:?}"),
                }
            });
            fed_ones += 1;
        }
    }
    assert!(fed_ones >= 50, "{fed_ones}");
}
