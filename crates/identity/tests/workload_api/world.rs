//! An identity before a scripted Workload API: what the tests and the benchmark begin with.

use std::fmt::Debug;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use secret_resolver::Error;
use secret_resolver_spiffe::{SpiffeCertificates, SpiffeIdentity, SpiffeIdentityBuilder};
use secret_resolver_transport::{CertificateSource, ClientCertificate};
use test_servers::{TestSvid, TestTrustDomain, WorkloadApi, X509Message};
use tokio::sync::watch;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const PATH: &str = "/billing";
pub(crate) const AUDIENCE: &str = "bao";
/// How long a test waits for what must happen, before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

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
}

/// What an SVID is as a client certificate.
pub(crate) fn certificate(svid: &TestSvid) -> ClientCertificate {
    ClientCertificate::from_der(svid.chain.clone(), &svid.key).unwrap()
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
