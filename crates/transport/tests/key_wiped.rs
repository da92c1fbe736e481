//! A private key leaves no text and no bytes of it in our buffers. A program of its own: it looks at the whole process.
//!
//! The library that signs keeps the key in memory of its own, and no canary can be a key. So the canary stands beside
//! one, and in the place of one.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write;
use std::path::Path;

use secret_resolver::testing::Canary;
use secret_resolver_transport::CertificateFiles;
use test_servers::{TestCa, Validity};

fn write(path: &Path, parts: &[&[u8]]) {
    let mut file = std::fs::File::create(path).unwrap();
    for part in parts {
        file.write_all(part).unwrap();
    }
}

#[test]
fn nothing_of_the_file_of_a_private_key_stays_in_memory() {
    let canary = Canary::new();
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let issued = ca.issue_client("client", Validity::CURRENT).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    write(&certificate, &[issued.certificate_pem.as_bytes()]);
    // Beside a good key: what was read of the file. Not at its begin, where an allocator writes into what is freed.
    let value = canary.value().unwrap();
    let before = [b'#'; 80];
    let parts = [&before, value.expose(), b"\n", issued.key_pem.as_bytes()];
    write(&key, &parts);
    drop(value);
    let files = CertificateFiles::new(&certificate, &key).unwrap();
    assert_eq!(canary.found().unwrap(), 0);
    drop(files);
    // As a key: its digits without line ends, and what they are decoded into.
    let value = canary.value().unwrap();
    let begin = b"-----BEGIN PRIVATE KEY-----\n";
    let end = b"\n-----END PRIVATE KEY-----\n";
    write(&key, &[begin, value.expose(), end]);
    drop(value);
    CertificateFiles::new(&certificate, &key).unwrap_err();
    assert_eq!(canary.found().unwrap(), 0);
}
