//! No JWT-SVID and no private key shows in any text: not in `Debug` or `Display`, not in what is traced at TRACE by this crate or any
//! below it.

use std::fmt::{self, Write as _};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use conjur_double::{ConjurDouble, Host, JwtService};
use secret_resolver::{Error, Resolver};
use secret_resolver_spiffe::{SpiffeIdentity, SpiffeJwts};
use secret_resolver_transport::CertificateSource;
use secret_resolver_vault::{Auth, VaultBackend};
use test_servers::{OpenBao, Spire, SpireKey, SpireSettings, TestCa, Validity};

use crate::listener::Listener;
use crate::needles::Needles;
use crate::stores::*;
use crate::support::*;

/// What an agent that is none answers.
const HOSTILE: &str = "hostile-5d1e";
const ISSUER: &str = "https://spire.example.test";

/// All that was shown.
#[derive(Default)]
struct Shown(String);

impl Shown {
    fn show(&mut self, text: &dyn fmt::Debug) {
        write!(self.0, "{text:?}\n{text:#?}\n").unwrap();
    }

    fn error(&mut self, error: &Error) {
        self.show(error);
        write!(self.0, "{error}\n{error:#}\n").unwrap();
        self.show(&std::error::Error::source(error).map(ToString::to_string));
    }

    async fn jwt(&mut self, source: &SpiffeJwts, needles: &mut Needles) {
        self.show(source);
        match jwt(source).await {
            Ok(jwt) => {
                self.show(&jwt);
                needles.jwt(jwt.secret().expose());
            }
            Err(error) => self.error(&error),
        }
    }

    fn identity(&mut self, source: &SpiffeIdentity) {
        self.show(source);
        self.show(&source.status());
    }
}

#[test]
fn no_jwt_svid_and_no_private_key_is_in_any_text_or_trace() {
    let listener = Listener::of_the_process();
    let (mut shown, mut needles) = (Shown::default(), Needles::default());
    let settings = SpireSettings::new("example.test").jwt_issuer(ISSUER);
    let mut spire = settings.jwt_key(SpireKey::Rsa2048).start().unwrap();
    let entry = spire.register(&entry(&spire).x509_ttl(SECOND * 8)).unwrap();
    needles.key(&der(&spire.until_issued(spire.uid(), PATH).unwrap().key));
    let admin = TestCa::new(Validity::CURRENT).unwrap();
    let bao = OpenBao::start_demanding_also(&admin, &spire.x509_bundle().unwrap()).unwrap();
    trust(&bao, &spire);
    let conjur = conjur(&spire);
    let source = identity(&spire);
    let certificates = source.certificates().unwrap();
    shown.show(&SpiffeIdentity::builder(spire.id(PATH), spire.socket()));
    shown.show(&certificates);
    shown.show(&source.trust(&spire.id("/store")).unwrap());
    let mut changes = certificates.subscribe();
    block_on(async {
        changes.wait_for(Result::is_ok).await.unwrap();
        // Good logins, and one with a JWT-SVID for another audience.
        for audience in [AUDIENCE, "another"] {
            let jwts = source.jwts(audience).unwrap();
            shown.jwt(&jwts, &mut needles).await;
            let auth = Auth::jwt("billing", jwts.clone());
            let target = target(&bao, auth).with_client_certificate(certificates.clone());
            shown.show(&target);
            let backend = VaultBackend::builder(target).build().unwrap();
            reads(&mut shown, backend).await;
            reads(&mut shown, at_conjur(&conjur, jwts)).await;
        }
        // Others of both kinds.
        for _ in 0..2 {
            changes.mark_unchanged();
            changes.changed().await.unwrap();
            shown.show(&*changes.borrow());
            let issued = spire.fetch_x509(spire.uid()).unwrap();
            issued.iter().for_each(|svid| needles.key(&der(&svid.key)));
        }
        shown.identity(&source);
        // Nobody, another, and an agent that is none, or away.
        shown
            .jwt(
                &identity_of(&spire, "/other").jwts(AUDIENCE).unwrap(),
                &mut needles,
            )
            .await;
        spire.delete(&entry).unwrap();
        changes.wait_for(Result::is_err).await.unwrap();
        shown.show(&*changes.borrow());
        shown
            .jwt(&source.jwts("third").unwrap(), &mut needles)
            .await;
        shown.identity(&source);
        spire.stop_agent();
        shown
            .jwt(&source.jwts("fourth").unwrap(), &mut needles)
            .await;
        std::fs::remove_file(spire.socket()).unwrap();
        let answers = answer_hostile(UnixListener::bind(spire.socket()).unwrap());
        shown
            .jwt(&source.jwts("fifth").unwrap(), &mut needles)
            .await;
        answers.join().unwrap();
        shown.identity(&source);
    });
    let traced = listener.text();
    for part in [
        "h2::",
        "tonic",
        "hyper",
        "secret_resolver",
        "logged in",
        "login failed",
    ] {
        assert!(traced.contains(part), "nothing was traced of {part}");
    }
    assert!(needles.jwts() >= 2 && needles.keys() >= 2);
    for (place, text) in [("debug text", &shown.0), ("trace", &traced)] {
        needles.assert_none_in(place, text);
        let line = text.lines().find(|line| line.contains(HOSTILE));
        assert!(line.is_none(), "in the {place}: {line:?}");
    }
}

/// Reads of both kinds, through the whole stack.
async fn reads(shown: &mut Shown, backend: impl secret_resolver::SecretResolver) {
    let resolver = Resolver::builder(backend).with_attempts(1).build().unwrap();
    for name in ["app/a", "none"] {
        match resolver.get(name).await {
            Ok(secret) => shown.show(&secret),
            Err(error) => shown.error(&error),
        }
    }
    shown.show(&resolver);
    shown.show(&resolver.status());
    shown.show(&resolver.shutdown_within(SECOND).await);
}

/// A Conjur that takes JWT-SVIDs for OpenBao too.
fn conjur(spire: &Spire) -> ConjurDouble {
    let conjur = ConjurDouble::start().unwrap();
    let how = JwtService::default().issuer(Some(ISSUER));
    conjur.add_authn_jwt("spire", &how.audience(Some(AUDIENCE)));
    let keys = spire.jwt_keys().unwrap();
    let keys = keys.iter().map(|key| (key.id.as_str(), key.pem.as_str()));
    conjur.set_public_keys("spire", keys);
    let host = format!("workloads/{}", spire.id(PATH));
    conjur.add_host_with(&Host::new(&host).annotation("authn-jwt/spire/sub", &spire.id(PATH)));
    conjur.allow_login(&format!("host:{host}"), "authn-jwt/spire");
    conjur.add_variable("app/a");
    conjur.set("app/a", "v");
    conjur.allow_read(&format!("host:{host}"), "app/a");
    conjur
}

fn at_conjur(conjur: &ConjurDouble, jwts: SpiffeJwts) -> impl secret_resolver::SecretResolver {
    use secret_resolver_conjur::{Auth, ConjurBackend, ConjurTarget, Trust};
    let trust = Trust::from_pem(conjur.ca_pem().as_bytes()).unwrap();
    let auth = Auth::jwt("spire", jwts);
    let target = ConjurTarget::new(conjur.origin(), trust, conjur.account(), auth);
    ConjurBackend::builder(target).build().unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    BASE64_STANDARD.decode(lines.collect::<String>()).unwrap()
}

/// What is at the agent's place answers its first caller with a text.
fn answer_hostile(listener: UnixListener) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        let _ = write!(stream, "HTTP/1.1 200 {HOSTILE}\r\n\r\n{HOSTILE}");
    })
}
