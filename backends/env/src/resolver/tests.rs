use std::ffi::OsString;
use std::sync::Mutex;

use secret_resolver::testing::conformance::{self, Subject};
use secret_resolver::testing::{MockBackend, Reply};
use secret_resolver::{Resolver, SecretResolverExt};

use super::*;

/// Variables of the test's own, and every read of them.
#[derive(Clone, Debug)]
struct Counted {
    variables: Arc<Vec<(&'static str, OsString)>>,
    reads: Arc<Mutex<Vec<String>>>,
}

impl EnvSource for Counted {
    fn read(&self, variable: &str) -> Option<OsString> {
        self.reads.lock().unwrap().push(variable.to_owned());
        let found = self.variables.iter().find(|(name, _)| *name == variable);
        found.map(|(_, value)| value.clone())
    }
}

impl Counted {
    fn reads(&self) -> Vec<String> {
        self.reads.lock().unwrap().clone()
    }
}

fn source() -> Counted {
    let variables = [
        ("APP_PROD_DB_PASSWORD", "hunter2-canary"),
        ("APP_PROD_TOKEN", "t0k3n-canary"),
        ("APP_APP_DB_PASSWORD", "both-canary"),
        ("APP_EMPTY", ""),
        ("PATH", "/bin"),
        ("LEGACY_KEY", "legacy-canary"),
    ];
    let variables = variables.map(|(name, value)| (name, OsString::from(value)));
    Counted {
        variables: Arc::new(variables.into()),
        reads: Arc::default(),
    }
}

fn prefixed(source: &Counted) -> EnvBackend {
    let builder = EnvBackend::builder()
        .with_prefix("APP")
        .with_source(source.clone());
    builder.build().unwrap()
}

#[tokio::test]
async fn it_keeps_all_laws_alone_and_in_the_stack() {
    for stacked in [false, true] {
        let backend = prefixed(&source());
        let resolver: Arc<dyn SecretResolver> = match stacked {
            true => Arc::new(Resolver::builder(backend).build().unwrap()),
            false => Arc::new(backend),
        };
        let subject = Subject::new(resolver, "no/such")
            .unwrap()
            .stores("prod/db#password", "hunter2-canary")
            .unwrap()
            .stores("prod/token", "t0k3n-canary")
            .unwrap();
        conformance::all(&subject).await.unwrap();
    }
}

#[tokio::test]
async fn the_prefix_stands_before_the_whole_name_even_where_they_begin_alike() {
    let source = source();
    let secret = prefixed(&source).get("app/db#password").await.unwrap();
    assert_eq!(secret.expose_str().unwrap(), "both-canary");
    assert_eq!(source.reads(), ["APP_APP_DB_PASSWORD"]);
}

#[test]
fn without_a_prefix_or_names_it_is_not_built() {
    let error = EnvBackend::builder().build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
}

#[test]
fn a_prefix_or_variable_that_cannot_be_one_is_refused() {
    for text in ["", "1A", "A-B", "A B", "A=B", "Ä", "A\0"] {
        let prefix = EnvBackend::builder().with_prefix(text).build();
        assert_eq!(
            prefix.unwrap_err().kind(),
            ErrorKind::Misconfigured,
            "{text:?}"
        );
        let alias = EnvBackend::builder().with_alias("a", text).build();
        assert_eq!(
            alias.unwrap_err().kind(),
            ErrorKind::Misconfigured,
            "{text:?}"
        );
    }
    let digits = EnvBackend::builder().with_names(["1/a"]).build();
    assert_eq!(digits.unwrap_err().kind(), ErrorKind::Misconfigured);
    let named = EnvBackend::builder().with_names(["a//b"]).build();
    assert_eq!(named.unwrap_err().kind(), ErrorKind::InvalidName);
}

#[test]
fn listed_names_that_share_a_variable_are_refused() {
    let backend = EnvBackend::builder().with_names(["prod/db#password", "prod/db-password"]);
    assert_eq!(
        backend.build().unwrap_err().kind(),
        ErrorKind::Misconfigured
    );
    let backend = EnvBackend::builder()
        .with_names(["a/b"])
        .with_alias("c", "A_B");
    assert_eq!(
        backend.build().unwrap_err().kind(),
        ErrorKind::Misconfigured
    );
    let backend = EnvBackend::builder().with_names(["a/ключ"]);
    assert_eq!(
        backend.build().unwrap_err().kind(),
        ErrorKind::Misconfigured
    );
}

#[tokio::test]
async fn a_name_that_was_not_listed_is_not_even_read() {
    let source = source();
    let builder = EnvBackend::builder()
        .with_names(["legacy/key"])
        .with_source(source.clone());
    let backend = builder.build().unwrap();
    assert_eq!(
        backend
            .get("legacy/key")
            .await
            .unwrap()
            .expose_str()
            .unwrap(),
        "legacy-canary"
    );
    for name in [
        "path",
        "PATH",
        "legacy-key",
        "legacy/key2",
        "app/prod#token",
    ] {
        assert_eq!(
            backend.get(name).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    assert_eq!(source.reads(), ["LEGACY_KEY"]);
}

#[tokio::test]
async fn a_prefix_keeps_every_other_variable_out_of_reach() {
    let source = source();
    let backend = prefixed(&source);
    for name in ["path", "../path", "legacy/key", "ключ"] {
        assert!(backend.get(name).await.is_err());
    }
    assert!(
        source
            .reads()
            .iter()
            .all(|variable| variable.starts_with("APP_"))
    );
}

#[tokio::test]
async fn an_alias_is_read_from_its_own_variable() {
    let source = source();
    let builder = EnvBackend::builder()
        .with_prefix("APP")
        .with_alias("old/key", "LEGACY_KEY");
    let backend = builder.with_source(source).build().unwrap();
    assert_eq!(
        backend.get("old/key").await.unwrap().expose_str().unwrap(),
        "legacy-canary"
    );
    assert!(backend.get("prod/token").await.is_ok());
}

#[tokio::test]
async fn an_empty_variable_is_not_found() {
    let error = prefixed(&source()).get("empty").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("APP_EMPTY"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn bytes_that_are_not_text_are_answered_exactly() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut source = source();
    source.variables = Arc::new(vec![("APP_RAW", OsString::from_vec(b"\xff\xfe".to_vec()))]);
    let secret = prefixed(&source).get("raw").await.unwrap();
    assert_eq!(
        secret_resolver::ExposeSecret::expose_secret(&secret),
        b"\xff\xfe"
    );
}

#[tokio::test]
async fn names_of_one_variable_are_one_address() {
    let backend = prefixed(&source());
    let address = |name| {
        backend
            .locate(NameRef::parse(name).unwrap())
            .address()
            .clone()
            .into_owned()
    };
    assert_eq!(address("prod/db#password"), address("PROD/db/password"));
    assert_ne!(address("prod/db#password"), address("prod/db#user"));
}

/// The environment holds an attacker's value and the store is cut off. The environment is part of
/// the stack, for other names: a fail-closed get errors, and it is not read for it.
#[tokio::test]
async fn an_outage_makes_the_environment_the_source_of_only_the_names_it_was_named_for() {
    let source = source();
    let store = MockBackend::new().with_value("prod/token", "from-the-store");
    store.always(Reply::Error(ErrorKind::Unavailable));
    let env = EnvBackend::builder()
        .with_prefix("APP")
        .with_source(source.clone())
        .build()
        .unwrap();
    let resolver = Resolver::builder(store)
        .dangerous_fallback_to_for("prod/db", env)
        .build()
        .unwrap();

    let error = resolver.get("prod/token").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(source.reads(), [""; 0]);

    let allowed = resolver.get("prod/db#password").await.unwrap();
    assert_eq!(allowed.expose_str().unwrap(), "hunter2-canary");
    assert_eq!(source.reads(), ["APP_PROD_DB_PASSWORD"]);
}

#[tokio::test]
async fn a_name_that_is_spelled_like_a_listed_names_variable_is_not_that_name() {
    for first in ["LEGACY_KEY", "legacy/key"] {
        let builder = EnvBackend::builder()
            .with_names(["legacy/key"])
            .with_source(source());
        let resolver = Resolver::builder(builder.build().unwrap()).build().unwrap();
        let _ = resolver.get(first).await;
        assert!(resolver.get("legacy/key").await.is_ok(), "after {first}");
        assert!(resolver.get("LEGACY_KEY").await.is_err(), "after {first}");
    }
}

#[tokio::test]
async fn with_a_prefix_and_names_only_those_are_answered_and_behind_the_prefix() {
    let source = source();
    let builder = EnvBackend::builder()
        .with_prefix("APP")
        .with_names(["prod/token", "path"])
        .with_source(source.clone());
    let backend = builder.build().unwrap();
    let secret = backend.get("prod/token").await.unwrap();
    assert_eq!(secret.expose_str().unwrap(), "t0k3n-canary");
    // A variable that is set, behind the prefix; another that is set, without it.
    for name in ["prod/db#password", "path"] {
        let error = backend.get(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
    }
    assert_eq!(source.reads(), ["APP_PROD_TOKEN", "APP_PATH"]);
}

#[tokio::test]
async fn a_scope_reads_listed_names_and_nothing_that_another_name_means_too() {
    let resolver = |builder: EnvBuilder| {
        let backend = builder.with_source(source()).build().unwrap();
        Resolver::builder(backend).build().unwrap()
    };
    // By the rule, `prod/db#password` is also `prod_db/password`, of another scope.
    let by_rule = resolver(EnvBackend::builder().with_prefix("APP"));
    for (scope, name) in [("prod", "db#password"), ("prod_db", "password")] {
        let scoped = by_rule.scoped(scope).unwrap();
        let refused = scoped.get(name).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
        assert!(!refused.to_string().contains("prod"), "{refused}");
        // Nor from memory, once somebody else has read it.
        by_rule.get("prod/db#password").await.unwrap();
        assert_eq!(
            scoped.peek(name).unwrap_err().kind(),
            ErrorKind::Misconfigured
        );
        assert!(scoped.handle(name).await.is_err());
        assert!(scoped.get_many(&[name]).await.remove(0).is_err());
    }
    let names = ["prod/db#password", "prod/token"];
    let listed = resolver(EnvBackend::builder().with_prefix("APP").with_names(names));
    let scoped = listed.scoped("prod").unwrap();
    scoped.get("db#password").await.unwrap();
    scoped.peek("db#password").unwrap();
    let missing = scoped.get("none").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let other = listed.scoped("prod_db").unwrap();
    let missing = other.get("password").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    // A signal for a path reaches what is listed below it.
    assert_eq!(listed.invalidator().invalidate_prefix("prod").unwrap(), 1);
}
