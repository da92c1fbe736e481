//! An identity that was built before a fork, in the child: it refuses at once. No thread there hears the agent, so nobody would learn there
//! that an SVID was withdrawn.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fork::Fork;
use secret_resolver::{Error, ErrorKind};
use secret_resolver_session::JwtSource as _;
use secret_resolver_spiffe::{SpiffeCertificates, SpiffeIdentity, SpiffeJwts};
use secret_resolver_transport::CertificateSource as _;
use test_servers::{Answer, WorkloadMethod, jwt_message};

use crate::support::*;

fn is_refused(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("fork"), "{error}");
}

fn in_the_child(identity: &SpiffeIdentity, sources: Option<&(SpiffeCertificates, SpiffeJwts)>) {
    is_refused(&identity.jwts(AUDIENCE).unwrap_err());
    is_refused(&identity.certificates().unwrap_err());
    is_refused(&identity.trust("spiffe://example.test/store").unwrap_err());
    assert_eq!(identity.status().ends, None);
    let Some((certificates, jwts)) = sources else {
        return;
    };
    is_refused(certificates.subscribe().borrow().as_ref().unwrap_err());
    assert_eq!(certificates.status(), None);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    is_refused(&runtime.unwrap().block_on(jwt(jwts)).unwrap_err());
    assert_eq!(jwts.status(), None);
}

/// Forks, and returns how the child has ended: 0 when all was well.
fn forked(child: impl FnOnce()) -> i32 {
    match fork::fork().unwrap() {
        Fork::Child => {
            // What hangs ends the child, as a failure.
            std::thread::spawn(|| {
                std::thread::sleep(SECOND * 10);
                std::process::abort();
            });
            let done = catch_unwind(AssertUnwindSafe(child));
            std::process::exit(if done.is_ok() { 0 } else { 1 });
        }
        Fork::Parent(child) => fork::waitpid(child).unwrap(),
    }
}

#[test]
fn own_an_identity_that_was_built_before_a_fork_refuses_in_the_child() {
    alone("forks::fork_with_an_identity");
}

/// Run by the test above in its own process, which forks.
#[test]
#[ignore = "another test runs it in its own process"]
fn fork_with_an_identity() {
    let world = World::new();
    let unused = world.identity();
    let token = world.domain.jwt(PATH, AUDIENCE, SECOND * 3600).unwrap();
    let message = jwt_message(&[(&world.id(), &token)]);
    world
        .api
        .answer(WorkloadMethod::JwtSvid, Answer::one(&message));
    let (watched, _) = block_on(world.showing());
    let identity = watched.identity.clone();
    let sources = (watched.source.clone(), identity.jwts(AUDIENCE).unwrap());
    block_on(jwt(&sources.1)).unwrap();
    assert_eq!(forked(|| in_the_child(&unused, None)), 0);
    assert_eq!(forked(|| in_the_child(&identity, Some(&sources))), 0);
    // One that is built in the child works there.
    let works = || {
        let there = world.identity();
        block_on(jwt(&there.jwts(AUDIENCE).unwrap())).unwrap();
    };
    assert_eq!(forked(works), 0);
    // And in the parent all is as before.
    block_on(jwt(&sources.1)).unwrap();
}
