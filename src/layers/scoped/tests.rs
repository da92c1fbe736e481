//! The scope by itself: that no name leaves it, and that the caller sees their own spelling.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::layers::{Cache, CacheConfig};
use crate::resolver::SecretResolverExt;
use crate::secret::Version;
use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};
use crate::testing::{ManualClock, MockBackend, Reply};

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn name(text: &str) -> NameRef<'_> {
    NameRef::parse(text).unwrap()
}

fn backend() -> MockBackend {
    MockBackend::new()
        .with_value("tenants/42/db#password", "of-42-canary")
        .with_value("tenants/42/token", "tok-42-canary")
        .with_value("tenants/43/db#password", "of-43-canary")
        .with_value("tenants/43/token", "tok-43-canary")
        .with_value("db#password", "of-nobody-canary")
}

fn tenant() -> (MockBackend, Scoped<MockBackend>) {
    let backend = backend();
    (
        backend.clone(),
        Scoped::new(backend, Scope::new("tenants/42").unwrap()),
    )
}

#[tokio::test]
async fn it_keeps_all_laws() {
    let subject = Subject::new(Arc::new(tenant().1), "no/such").unwrap();
    let subject = subject.stores("db#password", "of-42-canary").unwrap();
    let subject = subject.stores("token", "tok-42-canary").unwrap();
    all(&subject).await.unwrap();
    after_shutdown_all_is_refused(&subject).await.unwrap();
}

#[tokio::test]
async fn two_scopes_around_one_cache_never_share_an_entry() {
    let clock = Arc::new(ManualClock::strict());
    let cache = Cache::new(backend(), clock, CacheConfig::default()).unwrap();
    let cache = Arc::new(cache);
    let one = Scoped::new(Arc::clone(&cache), Scope::new("tenants/42").unwrap());
    let other = Scoped::new(cache, Scope::new("tenants/43").unwrap());
    for _ in 0..2 {
        let names = ["db#password", "token"];
        let text = |secret: Result<crate::Secret, Error>| {
            let secret = secret.unwrap();
            secret.expose_str().unwrap().to_owned()
        };
        assert_eq!(text(one.get("token").await), "tok-42-canary");
        assert_eq!(text(other.get("token").await), "tok-43-canary");
        let of_one: Vec<_> = one.get_many(&names).await.into_iter().map(text).collect();
        let of_other: Vec<_> = other.get_many(&names).await.into_iter().map(text).collect();
        assert_eq!(of_one, ["of-42-canary", "tok-42-canary"]);
        assert_eq!(of_other, ["of-43-canary", "tok-43-canary"]);
    }
}

#[test]
fn no_name_leaves_the_scope() {
    let (backend, tenant) = tenant();
    let tries = [
        "../43/db#password",
        "..",
        "./../43/db",
        "/tenants/43/db#password",
        "//tenants/43/token",
        "x/../../43/token",
        "db#../../43/db",
        "..\\43\\token",
        "\u{202e}../43/token",
        "",
        "#password",
        "x#y#z",
    ];
    for text in tries {
        let error = now(tenant.get(text)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{text:?}");
    }
    assert_eq!(backend.calls(), 0);
    // What is a name stays below the path, whatever it looks like.
    for text in ["tenants/43/token", "%2e%2e/43/token", "…/43/token", "~/x#y"] {
        let full = tenant.scope().full(name(text)).unwrap();
        assert!(full.as_str().starts_with("tenants/42/"), "{full}");
        let located = tenant.locate(name(text));
        assert!(located.address().as_str().starts_with("tenants/42/"));
        let error = now(tenant.get(text)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_name_that_gets_too_long_is_refused_and_fits_to_the_last_byte() {
    let (backend, tenant) = tenant();
    let longest = "x".repeat(SecretName::MAX_LEN - "tenants/42/".len());
    let too_long = format!("{longest}x");
    assert_eq!(
        now(tenant.get(&longest)).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(backend.calls(), 1);
    let error = now(tenant.get(&too_long)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert_eq!(error.name().unwrap().as_str(), too_long);
    // In a batch it fails alone, and shifts nobody's answer.
    let names = ["token", &too_long, "db#password", &too_long];
    let answers = now(tenant.get_many(&names));
    let text = |at: usize| answers[at].as_ref().unwrap().expose_str().unwrap();
    assert_eq!((text(0), text(2)), ("tok-42-canary", "of-42-canary"));
    for at in [1, 3] {
        let error = answers[at].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName);
    }
    // And no name outside has its address: a short path with a field that does not fit.
    let field = format!("tenants/43/db#{}", "f".repeat(490));
    let address = tenant.locate(name(&field)).address().clone().into_owned();
    assert_eq!(address.as_str(), "tenants/42/tenants/43/db");
}

/// A store that names the full name in its error.
#[derive(Debug)]
struct NamesInFull;

impl SecretResolver for NamesInFull {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let error = Error::new(ErrorKind::Denied, "no read").with_name(request.name());
        ResolveFuture::ready(Err(error))
    }
}

#[test]
fn an_error_names_the_secret_as_the_caller_did() {
    let tenant = Scoped::new(NamesInFull, Scope::new("tenants/42").unwrap());
    let nested = Scoped::new(
        Scoped::new(NamesInFull, Scope::new("tenants").unwrap()),
        Scope::new("42").unwrap(),
    );
    let resolvers: [&dyn SecretResolver; 2] = [&tenant, &nested];
    for resolver in resolvers {
        let request = [Request::new(name("db#password"))];
        let one = now(resolver.resolve(request[0])).unwrap_err();
        let many = now(resolver.resolve_many(&request)).remove(0).unwrap_err();
        for error in [one, many] {
            assert_eq!(error.to_string(), "denied: db#password: no read");
            assert_eq!(error.kind(), ErrorKind::Denied);
        }
    }
    // An error without a name is not given one: it may be shared.
    let backend = backend();
    backend.always(Reply::Error(ErrorKind::Unavailable));
    let tenant = Scoped::new(backend, Scope::new("tenants/42").unwrap());
    let error = now(tenant.resolve(Request::new(name("db")))).unwrap_err();
    assert!(error.name().is_none());
}

#[test]
fn all_of_a_request_goes_on() {
    #[derive(Debug)]
    struct Shows(std::sync::Mutex<Vec<String>>);
    impl SecretResolver for Shows {
        fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
            self.0.lock().unwrap().push(format!("{request:?}"));
            let error = Error::new(ErrorKind::NotFound, "of the secret").with_name(request.name());
            ResolveFuture::ready(Err(
                error.with_detail("https://bao/v1/secret/data/tenants/42/a")
            ))
        }
        fn endpoints(&self) -> usize {
            7
        }
    }
    let (version, floor) = (Version::number(7), Version::number(3));
    let held = Version::tag(b"held");
    let with_all = |name| {
        Request::new(name)
            .with_version(&version)
            .at_least(&floor)
            .with_held(&held)
            .with_deadline(Moment::ZERO + Duration::from_secs(3))
            .at_endpoint(5)
    };
    let shows = Arc::new(Shows(std::sync::Mutex::default()));
    let tenant = Scoped::new(Arc::clone(&shows), Scope::new("tenants/42").unwrap());
    let wanted = format!("{:?}", with_all(name("tenants/42/a#b")));
    let one = now(tenant.resolve(with_all(name("a#b"))));
    let many = now(tenant.resolve_many(&[with_all(name("a#b"))])).remove(0);
    assert_eq!(*shows.0.lock().unwrap(), [wanted.clone(), wanted]);
    // The errors show the caller nothing of the path, even where a backend says where it asked.
    for answer in [one, many] {
        assert_eq!(
            answer.unwrap_err().to_string(),
            "not found: a#b: of the secret"
        );
    }
    assert_eq!(tenant.endpoints(), 7);
}

#[test]
fn a_path_that_is_not_valid_is_refused_and_not_quoted() {
    let wrong = [
        "",
        "/",
        "tenants/",
        "/tenants",
        "tenants//42",
        "tenants/../42",
        "tenants/.",
        "tenants#42",
        "tenants\\42",
        "tenants/\u{200b}42",
    ];
    for path in wrong {
        let refused = Scope::new(path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidName, "{path:?}");
        assert!(!refused.to_string().contains("42"), "{refused}");
    }
}

#[test]
fn a_dropped_and_a_panicking_call_leave_it_usable() {
    let (backend, tenant) = tenant();
    backend.script("tenants/42/token", [Reply::Hang, Reply::Panic]);
    let mut hangs = Box::pin(tenant.get("token"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(hangs.as_mut().poll(&mut cx).is_pending());
    drop(hangs);
    let panics = std::panic::AssertUnwindSafe(|| now(tenant.get("token")));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert!(now(tenant.get("token")).is_ok());
}

#[test]
fn a_store_that_answers_too_few_is_malformed_and_blames_no_name() {
    #[derive(Debug)]
    struct Short;
    impl SecretResolver for Short {
        fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
            ResolveFuture::ready(Err(Error::new(ErrorKind::NotFound, "short")))
        }
        fn resolve_many<'a>(&'a self, _: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
            ResolveManyFuture::new(async { Vec::new() })
        }
    }
    let answers = now(Scoped::new(Short, Scope::new("a").unwrap()).get_many(&["b", "c"]));
    let kinds: Vec<_> = answers
        .into_iter()
        .map(|one| one.unwrap_err().kind())
        .collect();
    assert_eq!(kinds, [ErrorKind::Malformed; 2]);
}
