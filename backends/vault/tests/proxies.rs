//! A real nginx before a real OpenBao that answers for the store for some seconds: an outage is an outage, a
//! proxy's page is not the store's word, and nothing of it lasts.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::*;
use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, Error, ErrorKind, Resolver, Secret};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{Auth, VaultBackend, VaultTarget};
use test_servers::{Nginx, OpenBao};

/// How long the proxy answers.
const LASTS: Duration = Duration::from_secs(3);

struct Proxied {
    // Before the server, so that it ends first.
    proxy: Nginx,
    server: OpenBao,
    clock: SystemClock,
}

impl Proxied {
    fn start() -> Self {
        let server = OpenBao::start().unwrap();
        server.put("app/a", &[("value", "v")]).unwrap();
        Self {
            proxy: Nginx::before(&server).unwrap(),
            server,
            clock: SystemClock::shared().unwrap(),
        }
    }

    fn resolver(&self, auth: Auth) -> Resolver {
        let origin = Origin::parse(&self.proxy.origin()).unwrap();
        let trust = Trust::from_file(self.proxy.ca_file()).unwrap();
        let backend = VaultBackend::builder(VaultTarget::new(origin, trust, auth));
        let resolver = Resolver::builder(backend.build().unwrap()).with_ttl(SECOND);
        resolver.build().unwrap()
    }

    /// The kinds of error while the proxy gives this answer, and for how long after it not all of the
    /// resolvers are answered.
    async fn answers(&self, resolvers: &[Resolver], answer: &str) -> (Vec<ErrorKind>, Duration) {
        for resolver in resolvers {
            assert_eq!(text(resolver.get("app/a").await), "v");
        }
        self.proxy.answer(answer).unwrap();
        let begun = self.clock.now();
        let mut kinds = Vec::new();
        while self.clock.now().since(begun) < LASTS {
            for resolver in resolvers {
                if let Err(error) = self.get(resolver).await
                    && !kinds.contains(&error.kind())
                {
                    kinds.push(error.kind());
                }
            }
        }
        self.proxy.pass().unwrap();
        let passed = self.clock.now();
        for resolver in resolvers {
            while self.get(resolver).await.is_err() {
                assert!(self.clock.now().since(passed) < 30 * SECOND);
            }
        }
        (kinds, self.clock.now().since(passed))
    }

    async fn get(&self, resolver: &Resolver) -> Result<Secret, Error> {
        let answer = resolver.get("app/a").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer
    }

    fn auths(&self) -> [Auth; 2] {
        let role = reader(&self.server, HOUR, HOUR);
        let token = self.server.token(&["reader"], HOUR).unwrap();
        [approle(&role), Auth::token(value(&token))]
    }
}

#[test]
fn a_proxy_that_answers_for_some_seconds_costs_those_seconds_alone() {
    let proxied = Proxied::start();
    let resolvers = proxied.auths().map(|auth| proxied.resolver(auth));
    for (answer, kind) in [
        ("403", ErrorKind::Malformed),
        ("502", ErrorKind::Unavailable),
        ("503", ErrorKind::Unavailable),
        ("408", ErrorKind::Unavailable),
        ("421", ErrorKind::Unavailable),
    ] {
        let (kinds, back) = block_on(proxied.answers(&resolvers, answer));
        assert_eq!(kinds, [kind], "{answer}");
        assert!(back <= 2 * SECOND, "{answer}: {back:?}");
    }
    // The token of the first login is still in use.
    assert_eq!(live_logins(&proxied.server), 1);
}

#[test]
fn a_proxy_that_refuses_as_the_store_does_ends_no_token_for_ever() {
    let proxied = Proxied::start();
    let resolvers = proxied.auths().map(|auth| proxied.resolver(auth));
    let (kinds, back) = block_on(proxied.answers(&resolvers, "403-json"));
    assert_eq!(kinds, [ErrorKind::Unauthenticated]);
    // Logins are held back for 1, 2 and 4 s.
    assert!(back <= 5 * SECOND, "{back:?}");
    for resolver in resolvers {
        block_on(resolver.shutdown_within(5 * SECOND));
    }
    assert_eq!(live_logins(&proxied.server), 0);
}
