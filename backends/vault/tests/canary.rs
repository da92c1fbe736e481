//! No credential, no value and nothing that a server writes shows in any text: not in `Debug` or
//! `Display`, not in what is traced at TRACE by this crate or any below it. A test program of its own,
//! because it listens to the whole process.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::*;
use secret_resolver::backend::{NameRef, Request, SystemClock};
use secret_resolver::{Clock, ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_vault::{Auth, Credential, JwtFile, VaultBackend};
use test_servers::{OpenBao, Reply, TestIssuer};
use tokio::task::JoinSet;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps all that is traced, spans and events of every level and crate.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<String>>);

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.note(span.metadata(), |visit| span.record(visit));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.note(event.metadata(), |visit| event.record(visit));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Listener {
    /// The one that listens to this process.
    fn of_the_process() -> Self {
        static ONE: OnceLock<Listener> = OnceLock::new();
        let listens = || {
            let listener = Self::default();
            tracing::subscriber::set_global_default(listener.clone()).unwrap();
            listener
        };
        ONE.get_or_init(listens).clone()
    }

    fn note(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Text<'_>)) {
        let mut text = self.0.lock().unwrap();
        write!(text, "\n{} {}", metadata.level(), metadata.target()).unwrap();
        record(&mut Text(&mut text));
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

#[test]
fn no_credential_and_no_value_is_in_any_text_or_trace() {
    let listener = Listener::of_the_process();
    let server = OpenBao::start().unwrap();
    let (secret, user) = ("canary-secret-83b1", "canary-user-2c9d");
    server
        .put("app/a", &[("value", secret), ("user", user)])
        .unwrap();
    let role = reader(&server, Duration::from_secs(2), Duration::from_secs(4));
    let issuer = TestIssuer::rs256().unwrap();
    trust_issuer(&server, "jwt", &issuer);
    let clients = new_ca();
    trust_clients(&server, &clients);
    let folder = tempfile::tempdir().unwrap();
    let jwts = [
        issuer.token(SUBJECT, AUDIENCE, 600).unwrap(),
        issuer.token(SUBJECT, "other", 600).unwrap(),
    ];
    let jwt_file = |number: usize| {
        let path = folder.path().join(format!("{number}.jwt"));
        write(&path, &jwts[number]);
        JwtFile::new(path)
    };
    let issued = [client(&clients, "billing"), client(&new_ca(), "billing")];
    let pairs = [Pair::of(&issued[0]), Pair::of(&issued[1])];
    let plain = server.token(&["reader"], HOUR).unwrap();
    let mut shown = String::new();
    let mut show = |text: &dyn fmt::Debug| write!(shown, "{text:?}\n{text:#?}\n").unwrap();

    for (auth, pair) in [
        (approle(&role), None),
        (Auth::token(value(&plain)), None),
        (
            Auth::approle(value(&role.role_id), value("wrong-canary-id")),
            None,
        ),
        (Auth::jwt("billing", jwt_file(0)), None),
        (Auth::jwt("billing", jwt_file(1)), None),
        (Auth::cert(), Some(&pairs[0])),
        (Auth::cert(), Some(&pairs[1])),
    ] {
        show(&auth);
        let is_long = !format!("{auth:?}").contains("approle");
        let mut target = target(&server, auth);
        if let Some(pair) = pair {
            target = target.with_client_certificate(pair.files());
            show(&pair.files());
        }
        show(&target);
        let clock = Arc::new(SystemClock::shared().unwrap());
        let builder =
            VaultBackend::builder(target).with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        show(&builder);
        let backend = builder.build().unwrap();
        block_on(async {
            for round in 0..100 {
                for name in ["app/a", "app/a#user", "app/none", "denied"] {
                    let answer = backend
                        .resolve(Request::new(NameRef::parse(name).unwrap()))
                        .await;
                    show(&answer);
                    show(
                        &answer
                            .and_then(secret_resolver::Record::into_secret)
                            .map_err(|error| error.to_string()),
                    );
                }
                let stats = backend.stats();
                // Tokens of the first live for seconds, the others' are renewed in the same way.
                if stats.logins + stats.renewals >= 3 || (is_long && round == 3) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            show(&backend);
            show(&backend.get("app/a").await);
            show(&backend.shutdown(clock.now() + Duration::from_secs(5)).await);
            assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Closed);
        });
    }
    show(&Credential::file("/run/secrets/secret-id"));
    show(&value("canary-credential"));

    let traced = listener.0.lock().unwrap();
    for event in [
        "logged in",
        "token renewed",
        "token revoked",
        "login failed",
    ] {
        // As an audit event, with what it took.
        let line = traced.lines().find(|line| line.contains(event));
        let line = line.unwrap_or_else(|| panic!("nothing was traced of: {event}"));
        assert!(line.contains("secret_resolver::audit"), "{event}");
        let timed = line.contains("micros=");
        assert!(timed || event == "token revoked", "{event}");
    }
    let parts_of_jwts = jwts.iter().flat_map(|jwt| jwt.split('.').skip(1));
    // Whole lines of the keys' text, and of what stands in it: a key has no line that another has.
    let lines_of_keys = issued.iter().flat_map(|one| one.key_pem.lines().skip(2));
    let lines_of_keys = lines_of_keys.filter(|line| !line.starts_with('-'));
    // The role id is a name, but still one half of the credential.
    let needles = [
        secret,
        user,
        &plain,
        &role.role_id,
        &role.secret_id,
        server.root_token(),
        "canary",
        "s.",
        "client_token",
    ];
    let needles = needles
        .into_iter()
        .chain(parts_of_jwts)
        .chain(lines_of_keys);
    for (number, needle) in needles.enumerate() {
        for (place, text) in [("debug text", &shown), ("trace", &*traced)] {
            // OpenBao's tokens begin with `s.`: a token that the test does not know would be found by this.
            let found = text
                .match_indices(needle)
                .find(|(at, _)| needle != "s." || token_like(&text[at + 2..]));
            assert!(found.is_none(), "needle {number} is in the {place}");
        }
    }
}

fn token_like(rest: &str) -> bool {
    rest.chars().take_while(char::is_ascii_alphanumeric).count() >= 20
}

#[test]
fn nothing_that_a_hostile_server_writes_is_in_any_text_or_trace() {
    const HOSTILE: &str = "hostile-5d1e";
    let listener = Listener::of_the_process();
    let errors = format!(r#"{{"errors":["{HOSTILE}"]}}"#);
    let values =
        format!(r#"{{"data":{{"data":{{"value":"{HOSTILE}"}},"metadata":{{"version":0.5}}}}}}"#);
    let token =
        format!(r#"{{"auth":{{"client_token":"{HOSTILE} ","lease_duration":"{HOSTILE}"}}}}"#);
    let lookup = format!(r#"{{"data":{{"id":"{HOSTILE}","ttl":"{HOSTILE}","renewable":true}}}}"#);
    let mut replies: Vec<_> = [&errors, &values, &token, &lookup, HOSTILE]
        .map(|body| Reply::json(200, body))
        .into();
    for status in [400, 401, 403, 404, 405, 412, 429, 472, 473, 500, 502, 503] {
        let reply = Reply::json(status, &errors);
        replies.push(reply.with_header("Retry-After", HOSTILE));
    }
    replies.extend([
        Reply::status(302).with_header("Location", &format!("https://{HOSTILE}/")),
        Reply::json(200, "{}").with_header("X-Vault-Index", HOSTILE),
        Reply::json(200, "{}").with_header("Transfer-Encoding", HOSTILE),
        Reply::json(200, "{}").with_header(HOSTILE, HOSTILE),
        Reply::Raw(format!("HTTP/1.1 200 {HOSTILE}\r\n{HOSTILE}\r\n\r\n").into()),
        Reply::Raw(format!("HTTP/1.1 500 {HOSTILE}\r\n\r\n{HOSTILE}").into()),
        Reply::Raw(HOSTILE.into()),
        Reply::Truncated {
            declared: 1000,
            body: HOSTILE.into(),
        },
    ]);
    let paths = ["/login", "/data/a", "lookup-self", "revoke-self"];
    let shown = block_on(async {
        let mut cases = JoinSet::new();
        for path in paths {
            for reply in &replies {
                cases.spawn(shown_where(path, reply.clone()));
            }
        }
        cases.join_all().await.concat()
    });
    let traced = listener.0.lock().unwrap();
    for event in ["login failed", "not fetched", "not revoked"] {
        assert!(traced.contains(event), "nothing was traced of: {event}");
    }
    // A value is what the store says it is; that none is shown is the other test's affair.
    for (place, text) in [("debug text", &shown), ("trace", &*traced)] {
        let line = text.lines().find(|line| line.contains(HOSTILE));
        assert!(line.is_none(), "in the {place}: {line:?}");
    }
}

/// All that is shown where this is the answer on this path.
async fn shown_where(path: &'static str, reply: Reply) -> String {
    let mut shown = String::new();
    let mut show = |text: &dyn fmt::Debug| write!(shown, "{text:?}\n{text:#?}\n").unwrap();
    let fake = Fake::start();
    fake.state().instead = Some((path, reply));
    let backend = VaultBackend::builder(fake.target(role())).build().unwrap();
    let resolver = Resolver::builder(backend).with_attempts(1).build().unwrap();
    for name in ["a", "denied"] {
        let answer = resolver.get(name).await;
        if let Err(error) = &answer {
            show(&error.to_string());
            show(&std::error::Error::source(error).map(ToString::to_string));
        }
        show(&answer);
    }
    show(&resolver);
    show(&resolver.status());
    show(&resolver.shutdown_within(SECOND).await);
    shown
}
