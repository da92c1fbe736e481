//! The laws that every resolver keeps, on a Conjur in process: the backend alone, and in the stack. And no credential and no value is in
//! any text or trace: one program, because it listens to the whole process.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use common::*;
use secret_resolver::testing::conformance::{self, Subject};
use secret_resolver::{Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_conjur::{Auth, ConjurBackend};
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
        span.record(&mut Text(&mut self.0.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

async fn keeps_all(resolver: Arc<dyn SecretResolver>) {
    let subject = Subject::new(resolver, "app/no/such").unwrap();
    let subject = subject.stores("app/db#user", "app-canary").unwrap();
    let subject = subject.stores("app/db#password", "hunter2-canary").unwrap();
    let subject = subject.stores("app/token", "t0k3n-canary").unwrap();
    conformance::all(&subject).await.unwrap();
    conformance::after_shutdown_all_is_refused(&subject)
        .await
        .unwrap();
}

#[test]
fn the_conjur_backend_keeps_all_laws_alone_and_in_the_stack_and_shows_no_secret() {
    let listener = Listener::default();
    tracing::subscriber::set_global_default(listener.clone()).unwrap();
    let server = server(&[
        ("app/db/user", b"app-canary"),
        ("app/db/password", b"hunter2-canary"),
        ("app/token", b"t0k3n-canary"),
    ]);
    let key = server.key_of(READER);
    let mut shown = String::new();
    let mut show = |text: &dyn fmt::Debug| write!(shown, "{text:?}\n{text:#?}\n").unwrap();
    block_on(async {
        keeps_all(Arc::new(backend(&server))).await;
        keeps_all(Arc::new(resolver(&server))).await;
        for auth in [
            by_key(&server),
            Auth::api_key(READER, credential("wrong-canary")),
        ] {
            show(&auth);
            let target = target(&server, auth);
            show(&target);
            let builder = ConjurBackend::builder(target).with_versions();
            show(&builder);
            let backend = builder.build().unwrap();
            for name in ["app/token", "app/none", "app/db#user"] {
                show(&backend.get(name).await.map_err(|error| error.to_string()));
            }
            show(&backend);
            show(&Resolver::builder(backend).build().unwrap());
        }
    });
    let tokens: Vec<String> = server
        .requests()
        .iter()
        .filter_map(|logged| logged.request.header("Authorization").map(str::to_owned))
        .collect();
    assert!(!tokens.is_empty());
    let traced = listener.0.lock().unwrap().clone();
    assert!(traced.contains("logged in"));
    for text in [&shown, &traced] {
        assert!(!text.contains("canary"));
        assert!(!text.contains(&key));
        for token in &tokens {
            let inner = token
                .trim_start_matches("Token token=\"")
                .trim_end_matches('"');
            assert!(!text.contains(inner));
        }
    }
}
