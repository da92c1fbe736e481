//! How many copies of a JWT-SVID and of a private key stay in this process. A program of its own: it looks at all of the memory. What it
//! finds stands in the crate's documentation, under "Limits".

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "spire/support.rs"]
mod support;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secret_resolver::Moment;
use secret_resolver::testing::Canary;
use secret_resolver_spiffe::SpiffeJwts;
use secret_resolver_transport::CertificateSource;
use test_servers::{Spire, tools};
use zeroize::Zeroizing;

use support::*;

/// What is held, and buffers of gRPC: at most four were measured, and two.
const JWT_IN_USE: usize = 7;
const KEY_IN_USE: usize = 3;
/// The buffers alone, until others write over them: at most five were measured. What reuses freed memory differs from run to run.
const LEFT: usize = 8;

#[test]
fn copies_of_a_jwt_svid_that_stay_in_memory_are_few() {
    let spire = with_lives(6, 60);
    let jwts = identity(&spire).jwts(AUDIENCE).unwrap();
    block_on(async {
        let (first, ends) = jwt_of(&jwts).await;
        assert!(first.found().unwrap() > 0);
        assert_at_most(&first, JWT_IN_USE, "in use");
        until("another JWT-SVID", async || jwt_of(&jwts).await.1 != ends).await;
        assert_at_most(&first, LEFT, "after the next came");
        let (second, _) = jwt_of(&jwts).await;
        assert_at_most(&second, JWT_IN_USE, "in use");
        drop(jwts);
        assert_at_most(&second, LEFT, "after the source was dropped");
    });
}

#[test]
fn copies_of_a_private_key_that_stay_in_memory_are_few() {
    let spire = with_lives(60, 20);
    let source = identity(&spire);
    block_on(async {
        assert_at_most(&canary_in_key(&spire), 0, "before it was asked for");
        let certificates = source.certificates().unwrap();
        let mut changes = certificates.subscribe();
        changes.wait_for(Result::is_ok).await.unwrap();
        let first = canary_in_key_in_use(&spire);
        assert_at_most(&first, KEY_IN_USE, "in use");
        changes.mark_unchanged();
        changes.changed().await.unwrap();
        assert_at_most(&first, LEFT, "after the next came");
        let last = canary_in_key_in_use(&spire);
        assert_at_most(&last, KEY_IN_USE, "in use");
        drop((changes, certificates, source));
        until("the end of the thread", async || {
            !has_thread("secrets-spiffe")
        })
        .await;
        assert_at_most(&first, LEFT, "after all was dropped");
        assert_at_most(&last, LEFT, "after all was dropped");
    });
}

fn with_lives(of_jwt: u32, of_x509: u32) -> Spire {
    let spire = spire();
    let entry = entry(&spire).jwt_ttl(SECOND * of_jwt);
    spire.register(&entry.x509_ttl(SECOND * of_x509)).unwrap();
    // Not by SPIRE's client in this process, which would leave a copy of the key.
    let source = identity(&spire).jwts("any").unwrap();
    block_on(until("an identity", async || jwt(&source).await.is_ok()));
    spire
}

#[expect(clippy::print_stdout, reason = "the figures, for who measures again")]
fn assert_at_most(canary: &Canary, most: usize, when: &str) {
    let found = canary.found().unwrap();
    println!("{when}: {found}");
    assert!(found <= most, "{when}: {found}");
}

/// A part of its signature, and its end. The JWT itself is dropped.
async fn jwt_of(source: &SpiffeJwts) -> (Canary, Option<Moment>) {
    let jwt = jwt(source).await.unwrap();
    let text = jwt.secret().expose();
    (part_of(&text[text.len() - 60..]), jwt.ends())
}

/// Of the key that this process has. The agent may replace it while it is looked at.
fn canary_in_key_in_use(spire: &Spire) -> Canary {
    let mut keys = (0..5).map(|_| canary_in_key(spire));
    keys.find(|key| key.found().unwrap() > 0).unwrap()
}

/// A part of the secret number in the X509-SVID's key, which SPIRE's own client writes into a file.
fn canary_in_key(spire: &Spire) -> Canary {
    let folder = tempfile::tempdir().unwrap();
    let client = tools::spire().unwrap().join("spire-agent");
    let mut command = spire.command_as(spire.uid(), &client).unwrap();
    let (socket, write) = (spire.socket(), folder.path());
    command
        .args(["api", "fetch", "x509", "-silent", "-socketPath"])
        .arg(socket);
    assert!(command.arg("-write").arg(write).status().unwrap().success());
    let der = key_in(&folder.path().join("svid.0.key"));
    part_of(&der[32..])
}

/// The key in DER, read without a copy that stays.
fn key_in(pem: &Path) -> Zeroizing<Vec<u8>> {
    let [mut text, mut digits, mut der] = [(); 3].map(|()| Zeroizing::new(vec![0; 1024]));
    let length = File::open(pem).unwrap().read(&mut text).unwrap();
    let lines = text[..length].split(|byte| *byte == b'\n');
    let mut end = 0;
    for line in lines.filter(|line| !line.starts_with(b"-")) {
        digits[end..end + line.len()].copy_from_slice(line);
        end += line.len();
    }
    BASE64_STANDARD
        .decode_slice(&digits[..end], &mut der)
        .unwrap();
    der
}

fn part_of(value: &[u8]) -> Canary {
    let mut part = Zeroizing::new([0; Canary::LENGTH]);
    part.copy_from_slice(&value[..Canary::LENGTH]);
    Canary::of(&part)
}

fn has_thread(name: &str) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.any(|found| found.trim_end() == name)
}
