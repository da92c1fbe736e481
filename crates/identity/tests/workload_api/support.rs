//! What the tests look at and wait for.

use std::future::Future;
use std::process::{Command, Stdio};

use secret_resolver::{Error, ErrorKind};
use secret_resolver_session::{Jwt, JwtSource};
use test_servers::{Answer, TestSvid, WorkloadMethod, jwt_message};

pub(crate) use crate::world::*;

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

impl Watched {
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

pub(crate) async fn jwt(source: &impl JwtSource) -> Result<Jwt, Error> {
    source.jwt().await
}

/// The agent answers each question for a JWT-SVID with this one.
pub(crate) fn answers(world: &World, token: &str) {
    let message = jwt_message(&[(&world.id(), token)]);
    world
        .api
        .answer(WorkloadMethod::JwtSvid, Answer::one(&message));
}

/// Runs an ignored test of this program in a process of its own, for a minute at most.
pub(crate) fn alone(test: &str) {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args([test, "--exact", "--ignored", "--test-threads=1"])
        .stdout(Stdio::piped());
    let mut child = process.spawn().unwrap();
    for _ in 0..600 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(SECOND / 10);
    }
    let _ = child.kill();
    let said = child.wait_with_output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("1 passed"), "{said}");
}
