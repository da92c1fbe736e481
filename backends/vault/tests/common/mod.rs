//! What the tests of this crate share: backends for a real OpenBao, and a scripted server that
//! speaks as much of the protocol as a test of time or of counting needs. Backends for it are in `stores`.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses its own part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails here fails the test"
)]

mod identity;
mod stores;

use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind, Secret, SecretBuf, SecretResolverExt};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultBuilder, VaultTarget};
use test_servers::{
    AppRole, OpenBao, Reply, RequestHead, ScriptedHttps, ServerCert, TestCa, Validity,
};

pub(crate) use identity::*;
pub(crate) use stores::*;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A runtime of several threads, as a service has one.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs `future` to its end, or fails: a test of what must not hang must not hang itself.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(120), future)
            .await
            .expect("the test ends within two minutes")
    })
}

pub(crate) fn value(text: &str) -> Credential {
    Credential::value(SecretBuf::from_slice(text.as_bytes()).unwrap())
}

pub(crate) fn approle(role: &AppRole) -> Auth {
    Auth::approle(value(&role.role_id), value(&role.secret_id))
}

pub(crate) fn target(server: &OpenBao, auth: Auth) -> VaultTarget {
    VaultTarget::new(
        Origin::parse(&server.origin()).unwrap(),
        Trust::from_file(server.ca_file()).unwrap(),
        auth,
    )
}

/// A server with a role that may read all below `app/`, and a backend that logs in with it.
pub(crate) fn server_and_backend() -> (OpenBao, VaultBackend) {
    let server = OpenBao::start().unwrap();
    let role = reader(&server, HOUR, HOUR);
    let backend = VaultBackend::builder(target(&server, approle(&role)))
        .build()
        .unwrap();
    (server, backend)
}

pub(crate) fn reader(server: &OpenBao, ttl: Duration, max_ttl: Duration) -> AppRole {
    server
        .policy(
            "reader",
            r#"path "secret/data/app/*" { capabilities = ["read"] }"#,
        )
        .unwrap();
    server.approle("reader", &["reader"], ttl, max_ttl).unwrap()
}

/// How many tokens of AppRole logins are alive.
pub(crate) fn live_logins(server: &OpenBao) -> usize {
    let list = server
        .run(&["list", "-format=json", "auth/token/accessors"])
        .unwrap();
    let accessors: Vec<String> = serde_json::from_str(&list).unwrap();
    let of_role = |accessor: &&String| {
        let shown = server.run(&["token", "lookup", "-format=json", "-accessor", accessor]);
        shown.is_ok_and(|shown| shown.contains("\"display_name\": \"approle\""))
    };
    accessors.iter().filter(of_role).count()
}

/// The kind of the error that a get ends with.
pub(crate) async fn refusal(backend: &VaultBackend, name: &str) -> ErrorKind {
    match backend.get(name).await {
        Ok(_) => panic!("{name} was answered"),
        Err(error) => error.kind(),
    }
}

pub(crate) fn text(secret: Result<Secret, Error>) -> String {
    secret.unwrap().expose_str().unwrap().to_owned()
}

/// Polls until `done`, for at most 20 s.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 20 s: {what}");
}

/// A scripted store: logins, lookups, renewals and reads, each as the test sets them.
pub(crate) struct Fake {
    pub(crate) server: ScriptedHttps,
    pub(crate) state: Arc<Mutex<FakeState>>,
    pub(crate) ca: TestCa,
}

pub(crate) struct FakeState {
    /// What a login grants.
    pub(crate) lease: u64,
    pub(crate) renewable: bool,
    /// What a renewal grants; 0 refuses it.
    pub(crate) renewed_lease: u64,
    /// How often a token may be used; 0 for any number.
    pub(crate) uses: u64,
    /// `service` or `batch`.
    pub(crate) token_type: &'static str,
    /// How many tokens were issued; they are `token-1`, `token-2`, …
    pub(crate) issued: usize,
    /// Tokens that are refused.
    pub(crate) dead: Vec<String>,
    /// What answers to requests for this path's ending wait for.
    waits: Option<(&'static str, Gate)>,
    /// An answer in place of the next ones of this path's ending, and of how many.
    pub(crate) instead: Option<(&'static str, Reply)>,
    pub(crate) instead_of: usize,
    /// All requests whose answers are decided.
    requests: Vec<RequestHead>,
}

/// Holds answers back until a test opens it, for good. Opening it waits for nobody, so that no test hangs on it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// As long as a test may take, and then it fails.
    fn wait(&self) {
        let (open, opened) = &*self.0;
        let limit = Duration::from_secs(120);
        let waited = opened.wait_timeout_while(open.lock().unwrap(), limit, |open| !*open);
        assert!(*waited.unwrap().0, "no test has opened the gate");
    }
}

type Script = Box<dyn Fn(&RequestHead) -> Reply + Send + Sync>;

impl Fake {
    pub(crate) fn start() -> Self {
        Self::start_by(|certificate, script| ScriptedHttps::start(certificate, script))
    }

    /// One that takes no connection without a client certificate of this authority.
    pub(crate) fn start_demanding(clients: &TestCa) -> Self {
        Self::start_by(|certificate, script| {
            ScriptedHttps::start_demanding(certificate, clients, script)
        })
    }

    fn start_by(
        start: impl FnOnce(&ServerCert, Script) -> Result<ScriptedHttps, test_servers::Error>,
    ) -> Self {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let state = Arc::new(Mutex::new(FakeState {
            lease: 100,
            renewable: true,
            renewed_lease: 100,
            uses: 0,
            token_type: "service",
            issued: 0,
            dead: Vec::new(),
            waits: None,
            instead: None,
            instead_of: usize::MAX,
            requests: Vec::new(),
        }));
        let script = Arc::clone(&state);
        let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
        let answer = move |request: &RequestHead| {
            let (gate, reply) = {
                let mut state = script.lock().unwrap();
                let waits = state.waits.clone();
                let waits = waits.filter(|(ending, _)| request.target.ends_with(ending));
                let reply = state.answer(request);
                // With the decision, so that what a test changes after it has seen the record is of no concern to this answer.
                state.requests.push(request.clone());
                (waits.map(|(_, gate)| gate), reply)
            };
            if let Some(gate) = gate {
                gate.wait();
            }
            reply
        };
        let server = start(&certificate, Box::new(answer)).unwrap();
        Self { server, state, ca }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::from_pem(self.ca.pem().as_bytes()).unwrap()
    }

    pub(crate) fn target(&self, auth: Auth) -> VaultTarget {
        VaultTarget::new(
            Origin::parse(&self.server.origin()).unwrap(),
            self.trust(),
            auth,
        )
    }

    pub(crate) fn builder(&self, clock: &ManualClock) -> VaultBuilder {
        let auth = Auth::approle(value("role"), value("secret"));
        VaultBackend::builder(self.target(auth))
            .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
    }

    pub(crate) fn token_builder(&self, clock: &ManualClock) -> VaultBuilder {
        VaultBackend::builder(self.target(Auth::token(value("given"))))
            .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
    }

    /// Holds answers to requests for this path's ending back until the test opens the gate.
    pub(crate) fn hold(&self, ending: &'static str) -> Gate {
        let gate = Gate::default();
        self.state().waits = Some((ending, gate.clone()));
        gate
    }

    /// How many requests came for this path's ending. Their answers are decided, though perhaps not sent.
    pub(crate) fn asked(&self, ending: &str) -> usize {
        self.state()
            .requests
            .iter()
            .filter(|request| request.target.ends_with(ending))
            .count()
    }

    /// The tokens of all reads, in their order.
    pub(crate) fn tokens_of_reads(&self) -> Vec<String> {
        self.tokens_of(|target| target.contains("/data/"))
    }

    /// The tokens of all revocations, in their order.
    pub(crate) fn tokens_of_revocations(&self) -> Vec<String> {
        self.tokens_of(|target| target.ends_with("revoke-self"))
    }

    fn tokens_of(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let state = self.state();
        let meant = state
            .requests
            .iter()
            .filter(|request| is_meant(&request.target));
        meant
            .map(|request| request.header("X-Vault-Token").unwrap().to_owned())
            .collect()
    }
}

impl FakeState {
    fn answer(&mut self, request: &RequestHead) -> Reply {
        if let Some((ending, reply)) = &self.instead
            && request.target.ends_with(ending)
            && self.instead_of > 0
        {
            self.instead_of -= 1;
            return reply.clone();
        }
        let path = request.target.as_str();
        if path.ends_with("/login") {
            self.issued += 1;
            return self.granted(self.issued, self.lease, self.renewable);
        }
        let token = request.header("X-Vault-Token").unwrap_or_default();
        if token.is_empty() || self.dead.iter().any(|dead| dead == token) {
            return Reply::json(403, r#"{"errors":["permission denied"]}"#);
        }
        match path {
            "/v1/auth/token/lookup-self" => Reply::json(
                200,
                &format!(
                    r#"{{"data":{{"ttl":{},"renewable":{},"expire_time":"x","id":"{token}","num_uses":{}}}}}"#,
                    self.lease, self.renewable, self.uses
                ),
            ),
            "/v1/auth/token/renew-self" if self.renewed_lease == 0 => {
                Reply::json(400, r#"{"errors":["lease is not renewable"]}"#)
            }
            "/v1/auth/token/renew-self" => self.granted(0, self.renewed_lease, true),
            "/v1/auth/token/revoke-self" => Reply::status(204),
            "/v1/secret/data/denied" => Reply::json(
                403,
                r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#,
            ),
            _ => Reply::json(
                200,
                r#"{"data":{"data":{"value":"v"},"metadata":{"version":1}}}"#,
            ),
        }
    }

    fn granted(&self, number: usize, lease: u64, renewable: bool) -> Reply {
        Reply::json(
            200,
            &format!(
                r#"{{"auth":{{"client_token":"token-{number}","lease_duration":{lease},"renewable":{renewable},"num_uses":{},"token_type":"{}"}}}}"#,
                self.uses, self.token_type
            ),
        )
    }
}
