//! Several variables as one record: what is answered was there at one moment.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use conjur_double::{ConjurDouble, Fault, Gate, Kind};
use secret_resolver::{Address, ErrorKind, ExposeSecret as _, Resolver, Version};
use secret_resolver_conjur::{ConjurBackend, ConjurBuilder};

const USER: &str = "prod/db/user";
const PASSWORD: &str = "legacy//db password";

/// A user and a password, which is elsewhere.
fn two() -> ConjurDouble {
    server(&[(USER, b"user-1"), (PASSWORD, b"password-1")])
}

fn joined(server: &ConjurDouble) -> ConjurBuilder {
    builder(server)
        .with_alias("prod/db#password", PASSWORD)
        .with_record("prod/db", ["user", "password"])
}

fn stack(server: &ConjurDouble) -> Resolver {
    let backend = joined(server).build().unwrap();
    Resolver::builder(backend).with_attempts(1).build().unwrap()
}

/// The record's two values, as texts.
async fn pair(resolver: &Resolver) -> Result<(String, String), ErrorKind> {
    let record = resolver.get_record("prod/db").await;
    let record = record.map_err(|error| error.kind())?;
    let field = |name: &str| {
        let secret = record.field(name).unwrap();
        String::from_utf8(secret.expose_secret().to_vec()).unwrap()
    };
    Ok((field("user"), field("password")))
}

#[test]
fn the_fields_of_a_record_are_one_fetch_under_all_of_their_names() {
    let server = two();
    let resolver = stack(&server);
    block_on(async {
        let user = resolver.get("prod/db#user").await.unwrap();
        assert_eq!(user.expose_secret(), b"user-1");
        assert_eq!(user.version(), &Version::number(2));
        let password = resolver.get("prod/db/password").await.unwrap();
        assert_eq!(password.expose_secret(), b"password-1");
        let (user, password) = pair(&resolver).await.unwrap();
        assert_eq!((&*user, &*password), ("user-1", "password-1"));
    });
    assert_eq!(resolver.status().fetches, 1);
    // Two looks at each version, and one read.
    assert_eq!(
        (server.count(Kind::Resource), server.count(Kind::Secret)),
        (4, 2)
    );
    // What is not a field of it is its own variable, as ever.
    store(&server, "prod/db/host", b"db-1");
    block_on(async { assert_eq!(bytes(resolver.get("prod/db#host").await), b"db-1") });
}

#[test]
fn a_record_that_is_written_while_it_is_read_is_read_again() {
    let server = two();
    let resolver = stack(&server);
    // The password was read, and the user is not.
    let gate = Gate::new();
    server.fault_next("/secrets/myorg/variable/prod", Fault::Held(gate.clone()));
    block_on(async {
        let asked = resolver.clone();
        let read = tokio::spawn(async move { pair(&asked).await });
        let answered = server.wait_for_answers(Kind::Secret, 2, SECOND * 20);
        assert!(answered);
        server.set(USER, "user-2");
        server.set(PASSWORD, "password-2");
        gate.open();
        let read = read.await.unwrap().unwrap();
        assert_eq!(read, ("user-2".to_owned(), "password-2".to_owned()));
    });
}

/// Writes both variables again and again while `read` runs, resting after every eighth time.
fn while_written<T>(server: &ConjurDouble, rest: Duration, read: impl Future<Output = T>) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 2..10_000 {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                server.set(USER, format!("user-{number}"));
                server.set(PASSWORD, format!("password-{number}"));
                let pause = if number % 8 == 0 { rest } else { SECOND / 1000 };
                std::thread::sleep(pause);
            }
        });
        let read = block_on(read);
        done.store(true, Ordering::Relaxed);
        read
    })
}

#[test]
fn under_a_writer_every_pair_that_is_answered_was_there() {
    let server = two();
    let resolver = stack(&server);
    let mut pairs = 0;
    while_written(&server, SECOND / 25, async {
        for _ in 0..300 {
            resolver.invalidator().invalidate_all().unwrap();
            // An error where it is written each time.
            let Ok((user, password)) = pair(&resolver).await else {
                continue;
            };
            let number = |text: &str| text.split('-').next_back().unwrap().parse().unwrap();
            let (user, password): (u32, u32) = (number(&user), number(&password));
            assert!(
                user == password || user == password + 1,
                "{user} {password}"
            );
            pairs += 1;
            if pairs == 20 {
                break;
            }
        }
    });
    assert!(pairs > 0);
}

#[test]
fn a_record_that_is_written_each_time_it_is_read_is_an_error() {
    let server = two();
    let resolver = stack(&server);
    // Each time, the password was read, and the user is not.
    let gates = [(); 3].map(|()| Gate::new());
    for gate in &gates {
        server.fault_next("/secrets/myorg/variable/prod", Fault::Held(gate.clone()));
    }
    block_on(async {
        let asked = resolver.clone();
        let read = tokio::spawn(async move { pair(&asked).await });
        for (number, gate) in (1..).zip(&gates) {
            let answered = server.wait_for_answers(Kind::Secret, 2 * number, SECOND * 20);
            assert!(answered);
            server.set(USER, format!("user-{}", number + 1));
            server.set(PASSWORD, format!("password-{}", number + 1));
            gate.open();
        }
        assert_eq!(read.await.unwrap(), Err(ErrorKind::Unavailable));
    });
    // It was tried three times.
    assert_eq!(server.count(Kind::Secret), 6);
}

#[test]
fn a_record_is_read_at_one_endpoint() {
    let leader = two();
    let follower = leader.follower().unwrap();
    follower.set_lagging(true);
    leader.set(USER, "user-2");
    leader.set(PASSWORD, "password-2");
    let target = target(&follower, by_key(&leader)).with_endpoint(leader.origin());
    let backend = ConjurBackend::builder(target)
        .with_alias("prod/db#password", PASSWORD)
        .with_record("prod/db", ["user", "password"]);
    let resolver = Resolver::builder(backend.build().unwrap()).build().unwrap();
    block_on(async {
        // Both of the moment that the follower knows.
        let old = ("user-1".to_owned(), "password-1".to_owned());
        assert_eq!(pair(&resolver).await.unwrap(), old);
        // And no older moment once a newer was seen.
        follower.stop();
        resolver.invalidator().invalidate_all().unwrap();
        let new = ("user-2".to_owned(), "password-2".to_owned());
        assert_eq!(pair(&resolver).await.unwrap(), new);
        // It is back, as far behind as it was.
        follower.start_again().unwrap();
        leader.stop();
        resolver.invalidator().invalidate_all().unwrap();
        assert_eq!(pair(&resolver).await, Err(ErrorKind::Refused));
    });
}

#[test]
fn a_signal_for_one_variable_concerns_its_record() {
    let server = two();
    let resolver = stack(&server);
    block_on(async {
        drop(pair(&resolver).await.unwrap());
        server.set(PASSWORD, "password-2");
        // By the id that the store itself says, with the account or without, and by each name.
        let full = format!("myorg:variable:{PASSWORD}");
        let dropped = resolver
            .invalidator()
            .invalidate_address(&Address::from(full));
        assert_eq!(dropped.unwrap(), 1);
        drop(pair(&resolver).await.unwrap());
        let dropped = resolver
            .invalidator()
            .invalidate_address(&Address::from(PASSWORD))
            .unwrap();
        assert_eq!(dropped, 1);
        assert_eq!(pair(&resolver).await.unwrap().1, "password-2");
        for name in ["prod/db#user", "prod/db/password", "prod/db"] {
            assert_eq!(
                resolver.invalidator().invalidate(name).unwrap(),
                1,
                "{name}"
            );
            drop(pair(&resolver).await.unwrap());
        }
        for prefix in ["prod/db/user", "prod/db", "prod"] {
            let dropped = resolver.invalidator().invalidate_prefix(prefix).unwrap();
            assert_eq!(dropped, 1, "{prefix}");
            drop(pair(&resolver).await.unwrap());
        }
    });
}

#[test]
fn a_variable_of_a_record_has_one_value_under_all_of_its_names() {
    let server = server(&[(USER, b"user-1"), ("legacy/pw", b"password-1")]);
    let backend = builder(&server)
        .with_alias("prod/db#password", "legacy/pw")
        .with_record("prod/db", ["user", "password"]);
    let resolver = Resolver::builder(backend.build().unwrap()).build().unwrap();
    block_on(async {
        for signal in ["name", "prefix"] {
            assert!(pair(&resolver).await.is_ok());
            let value = format!("password-{signal}");
            server.set("legacy/pw", &value);
            let invalidator = resolver.invalidator();
            let dropped = match signal {
                "name" => invalidator.invalidate("legacy/pw"),
                _ => invalidator.invalidate_prefix("legacy"),
            };
            assert_eq!(dropped.unwrap(), 1, "{signal}");
            for name in [
                "prod/db#password",
                "prod/db/password",
                "legacy/pw",
                "legacy#pw",
            ] {
                assert_eq!(bytes(resolver.get(name).await), value.as_bytes(), "{name}");
            }
        }
    });
}

#[test]
fn a_record_of_which_one_variable_may_not_be_read_or_is_missing_is_an_error() {
    let server = two();
    server.revoke(ROLE, &["execute"], PASSWORD);
    block_on(async {
        assert_eq!(pair(&stack(&server)).await, Err(ErrorKind::Denied));
        server.delete(PASSWORD);
        let resolver = stack(&server);
        assert_eq!(pair(&resolver).await, Err(ErrorKind::NotFound));
        // A field that it does not have is not there, either.
        let error = resolver.get("prod/db#other").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn the_rights_on_a_record_are_those_on_its_variables() {
    let server = two();
    server.grant(ROLE, &["update"], PASSWORD);
    let backend = joined(&server).build().unwrap();
    let resolver = Resolver::builder(backend).require_least_privilege();
    let error = block_on(resolver.build().unwrap().require(&["prod/db#user"])).unwrap_err();
    assert!(
        error.to_string().ends_with("(it may change prod/db#user)"),
        "{error}"
    );
}

#[test]
fn a_record_that_makes_no_sense_is_refused_when_it_is_built() {
    let server = two();
    let fields: &[&[&str]] = &[
        &[],
        &["user", "user"],
        &["a/b", "user"],
        &["", "user"],
        &["a#b"],
    ];
    for fields in fields {
        let wrong = builder(&server).with_record("prod/db", fields.iter().copied());
        assert_eq!(
            wrong.build().unwrap_err().kind(),
            ErrorKind::Misconfigured,
            "{fields:?}"
        );
    }
    for path in ["", "/prod", "prod/", "prod/../db", "prod#db"] {
        let wrong = builder(&server).with_record(path, ["user"]);
        assert_eq!(
            wrong.build().unwrap_err().kind(),
            ErrorKind::Misconfigured,
            "{path}"
        );
    }
    for wrong in [
        joined(&server).with_record("prod/db", ["host"]),
        joined(&server).with_alias("other", "prod/db"),
        joined(&server).with_alias("prod/db", "other"),
        joined(&server).with_record("prod", ["db"]),
        joined(&server)
            .with_record("again", ["user"])
            .with_alias("again#user", USER),
        builder(&server).with_record("data/dynamic", ["db"]),
    ] {
        assert_eq!(wrong.build().unwrap_err().kind(), ErrorKind::Misconfigured);
    }
}

const ROLE: &str = "host:apps/reader";
