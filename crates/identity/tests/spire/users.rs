//! Who is on the other side of the socket, and who asks: agents and workloads of other users. Root starts them, so these tests need root,
//! and say so.

use std::os::unix::fs::chown;
use std::process::Output;

use secret_resolver::{ErrorKind, Moment};
use secret_resolver_spiffe::{SpiffeIdentity, SpiffeIdentityBuilder};
use test_servers::{Registration, Spire, SpireSettings};

use crate::certificates::shown;
use crate::stores::*;
use crate::support::*;

/// Users that nobody else is.
const AGENT: u32 = 65531;
const NEIGHBOUR: u32 = 65532;
const STRANGER: u32 = 65533;

/// Without the agent's user.
fn builder(spire: &Spire) -> SpiffeIdentityBuilder {
    let builder = SpiffeIdentity::builder(spire.id(PATH), spire.socket());
    sticky(&spire.socket())
        .into_iter()
        .fold(builder, SpiffeIdentityBuilder::with_sticky_folder)
}

#[test]
fn an_agent_of_another_user_is_asked_only_where_that_user_is_named() {
    let settings = SpireSettings::new("example.test").agent_user(AGENT);
    let spire = settings.start().unwrap();
    register(&spire);
    block_on(async {
        for refused in [builder(&spire), builder(&spire).with_agent_uid(STRANGER)] {
            let source = refused.build().unwrap().jwts(AUDIENCE).unwrap();
            let error = jwt(&source).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            let shown = error.to_string();
            assert!(
                shown.contains("with_agent_uid") && shown.contains("uid 65531"),
                "{shown}"
            );
        }
        let named = builder(&spire).with_agent_uid(AGENT).build().unwrap();
        assert!(jwt(&named.jwts(AUDIENCE).unwrap()).await.is_ok());
        let certificates = named.certificates().unwrap();
        let shown = shown(&certificates);
        until("an SVID", async || shown.borrow().is_ok()).await;
    });
}

#[test]
fn an_agent_that_another_user_has_replaced_is_refused_and_what_the_first_gave_is_used_to_its_end() {
    let mut spire = spire();
    // Half of the JWT's life is over before its end is.
    let entry = entry(&spire).jwt_ttl(SECOND * 6).x509_ttl(SECOND * 60);
    spire.register(&entry).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    let source = identity(&spire);
    let (jwts, certificates) = (
        source.jwts(AUDIENCE).unwrap(),
        source.certificates().unwrap(),
    );
    let shown = shown(&certificates);
    block_on(async {
        until("an SVID", async || shown.borrow().is_ok()).await;
        let first = jwt(&jwts).await.unwrap();
        spire.start_agent_as(STRANGER).unwrap();
        until("a look at the other's folder", async || {
            failure(&source).is_some_and(|(_, text)| text.contains("belongs to another user"))
        })
        .await;
        // As where the folder is the agent's still, and the kernel alone knows who listens.
        let folder = spire.socket().parent().unwrap().to_owned();
        for path in [folder, spire.socket()] {
            chown(path, Some(spire.uid()), None).unwrap();
        }
        until("a look at who listens", async || {
            // What is held is given out, and the other is never asked.
            let held = jwt(&jwts).await;
            assert!(held.is_err() || held.unwrap() == first);
            failure(&source).is_some_and(|(_, text)| text.contains("runs as another user"))
        })
        .await;
        assert!(shown.borrow().is_ok());
        let ends = first.ends().unwrap();
        until("the end of the JWT-SVID", async || match jwt(&jwts).await {
            Ok(held) => {
                assert_eq!(held, first);
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                assert!(now() >= ends, "before its end");
                true
            }
        })
        .await;
        assert!(shown.borrow().is_ok());
        assert_eq!(
            failure(&source).map(|(kind, _)| kind),
            Some(ErrorKind::Refused)
        );
        // The right one is found again.
        spire.start_agent_as(spire.uid()).unwrap();
        until("a JWT-SVID", async || jwt(&jwts).await.is_ok()).await;
    });
}

fn failure(source: &SpiffeIdentity) -> Option<(ErrorKind, &'static str)> {
    let failure = source.status().last_failure?;
    Some((failure.kind, failure.what))
}

fn now() -> Moment {
    use secret_resolver::Clock as _;
    secret_resolver::backend::SystemClock::shared()
        .unwrap()
        .now()
}

/// The variables by which the workload of another user, this same test in its own process, learns whom to ask for what.
const SOCKET: &str = "SPIFFE_TEST_SOCKET";
const ID: &str = "SPIFFE_TEST_ID";

#[test]
fn another_user_gets_nothing_without_an_entry_and_the_environment_names_no_socket() {
    if let (Ok(socket), Ok(id)) = (std::env::var(SOCKET), std::env::var(ID)) {
        return ask_as_a_workload(&socket, &id);
    }
    let spire = spire();
    register(&spire);
    let entry = Registration::new("/neighbour", NEIGHBOUR);
    spire.register(&entry).unwrap();
    drop(spire.until_issued(NEIGHBOUR, "/neighbour").unwrap());
    let socket = spire.socket().display().to_string();
    let none = spire
        .socket()
        .with_file_name("none.sock")
        .display()
        .to_string();
    for (uid, socket, path, wanted) in [
        (
            NEIGHBOUR,
            &socket,
            "/neighbour",
            "a JWT-SVID and an X509-SVID",
        ),
        // Neither is it given what is somebody else's.
        (NEIGHBOUR, &socket, PATH, "Unauthenticated"),
        (STRANGER, &socket, PATH, "Unauthenticated"),
        (STRANGER, &socket, "/neighbour", "Unauthenticated"),
        (NEIGHBOUR, &none, "/neighbour", "Unauthenticated"),
    ] {
        let output = workload(&spire, uid, socket, path);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(&format!("got: {wanted}")),
            "{uid} {path}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// This test as a process of that user. Its environment names the real socket, as SPIFFE's own variable does.
fn workload(spire: &Spire, uid: u32, socket: &str, path: &str) -> Output {
    let program = std::env::current_exe().unwrap();
    let mut command = spire.command_as(uid, &program).unwrap();
    let real = format!("unix://{}", spire.socket().display());
    let this =
        "users::another_user_gets_nothing_without_an_entry_and_the_environment_names_no_socket";
    command
        .args(["--exact", this, "--nocapture"])
        .env(SOCKET, socket)
        .env(ID, spire.id(path))
        .env("SPIFFE_ENDPOINT_SOCKET", real)
        .env("TMPDIR", std::env::temp_dir());
    command.output().unwrap()
}

#[expect(clippy::print_stdout, reason = "it reports to its test there")]
fn ask_as_a_workload(socket: &str, id: &str) {
    let builder = SpiffeIdentity::builder(id, socket);
    let builder = sticky(socket.as_ref())
        .into_iter()
        .fold(builder, SpiffeIdentityBuilder::with_sticky_folder);
    let identity = builder.build().unwrap();
    let certificates = identity.certificates().unwrap();
    let source = identity.jwts(AUDIENCE).unwrap();
    block_on(async {
        let mut shown = shown(&certificates);
        let got = jwt(&source).await;
        match got {
            Ok(_) => {
                let is_there = shown.wait_for(Result::is_ok).await.is_ok();
                println!(
                    "\ngot: a JWT-SVID{}",
                    if is_there { " and an X509-SVID" } else { "" }
                );
            }
            Err(error) => {
                assert!(shown.borrow().is_err());
                println!("\ngot: {:?}", error.kind());
            }
        }
    });
}
