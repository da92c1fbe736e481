//! An identity before a scripted Workload API, and what it comes to.

use std::fmt::Debug;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use secret_resolver::{Error, ErrorKind};
use secret_resolver_session::{Jwt, JwtSource};
use secret_resolver_spiffe::{SpiffeCertificates, SpiffeIdentity, SpiffeIdentityBuilder};
use secret_resolver_transport::{CertificateSource, ClientCertificate};
use test_servers::{TestSvid, TestTrustDomain, WorkloadApi, X509Message};
use tokio::sync::watch;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const PATH: &str = "/billing";
pub(crate) const AUDIENCE: &str = "bao";
/// How long a test waits for what must happen, before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The statuses of gRPC that the Workload API uses.
pub(crate) const INVALID_ARGUMENT: u16 = 3;
pub(crate) const PERMISSION_DENIED: u16 = 7;
pub(crate) const UNIMPLEMENTED: u16 = 12;
pub(crate) const UNAVAILABLE: u16 = 14;

/// Runs `future` to its end, or fails: a test of what must not hang must not hang itself.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let limited = tokio::time::timeout(PATIENCE * 2, future);
        limited.await.unwrap()
    })
}

/// An agent and a trust domain.
pub(crate) struct World {
    pub(crate) domain: TestTrustDomain,
    pub(crate) api: WorkloadApi,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            domain: TestTrustDomain::new("example.test").unwrap(),
            api: WorkloadApi::start().unwrap(),
        }
    }

    pub(crate) fn id(&self) -> String {
        self.domain.id(PATH)
    }

    pub(crate) fn builder(&self, id: &str) -> SpiffeIdentityBuilder {
        let folder = self.api.folder();
        let mut builder = SpiffeIdentity::builder(id, self.api.socket());
        // Where tests put their files is open to everyone.
        for above in folder.ancestors().skip(1) {
            builder = builder.with_sticky_folder(above);
        }
        builder.with_agent_uid(folder.metadata().unwrap().uid())
    }

    pub(crate) fn identity(&self) -> SpiffeIdentity {
        self.builder(&self.id()).build().unwrap()
    }

    pub(crate) fn show(&self, svids: &[TestSvid]) {
        self.api.show(&X509Message::of(svids));
    }

    pub(crate) fn svid(&self) -> TestSvid {
        self.domain.svid(PATH).unwrap()
    }

    /// What is shown once the agent has shown a good SVID, which comes too.
    pub(crate) async fn showing(&self) -> (Watched, TestSvid) {
        let svid = self.svid();
        self.show(std::slice::from_ref(&svid));
        let mut watched = Watched::new(self.identity());
        watched.until_shown(&svid).await;
        // The first message wakes those who wait for it once more.
        until("the begin", async || !watched.source.is_starting()).await;
        drop(watched.shown.borrow());
        (watched, svid)
    }
}

/// An identity whose certificates somebody wants.
pub(crate) struct Watched {
    pub(crate) identity: SpiffeIdentity,
    pub(crate) source: SpiffeCertificates,
    pub(crate) shown: watch::Receiver<Result<ClientCertificate, Error>>,
}

impl Watched {
    pub(crate) fn new(identity: SpiffeIdentity) -> Self {
        let source = identity.certificates().unwrap();
        let shown = source.subscribe();
        Self {
            identity,
            source,
            shown,
        }
    }

    /// Waits until it shows this one, and no other between.
    pub(crate) async fn until_shown(&mut self, svid: &TestSvid) {
        let wanted = certificate(svid);
        let is_it = |shown: &Result<ClientCertificate, Error>| matches!(shown, Ok(shown) if *shown == wanted);
        let waited = tokio::time::timeout(PATIENCE, self.shown.wait_for(is_it)).await;
        drop(waited.unwrap().unwrap());
    }

    /// Waits until it shows none, and says why.
    pub(crate) async fn until_none(&mut self) -> Error {
        let waited = tokio::time::timeout(PATIENCE, self.shown.wait_for(Result::is_err)).await;
        waited.unwrap().unwrap().clone().unwrap_err()
    }

    pub(crate) fn shows(&self, svid: &TestSvid) -> bool {
        matches!(&*self.shown.borrow(), Ok(shown) if *shown == certificate(svid))
    }

    /// What went wrong last: its kind, and words of ours.
    pub(crate) fn failure(&self) -> Option<(ErrorKind, &'static str)> {
        let failure = self.identity.status().last_failure;
        failure.map(|failure| (failure.kind, failure.what))
    }

    /// Waits until a failure is reported.
    pub(crate) async fn until_failed(&self) {
        until("a failure", async || self.failure().is_some()).await;
    }

    /// Waits until a failure of this kind is reported.
    pub(crate) async fn until_reported(&self, kind: ErrorKind) -> &'static str {
        until(kind, async || {
            self.failure().is_some_and(|(of, _)| of == kind)
        })
        .await;
        self.failure().unwrap().1
    }
}

/// What an SVID is as a client certificate.
pub(crate) fn certificate(svid: &TestSvid) -> ClientCertificate {
    ClientCertificate::from_der(svid.chain.clone(), &svid.key).unwrap()
}

pub(crate) async fn jwt(source: &impl JwtSource) -> Result<Jwt, Error> {
    source.jwt().await
}

/// Polls until `done`.
pub(crate) async fn until(what: impl Debug, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if done().await {
            return;
        }
        tokio::time::sleep(SECOND / 100).await;
    }
    panic!("not within 20 s: {what:?}");
}
