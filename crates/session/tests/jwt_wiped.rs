//! A JWT that was read from its file leaves nothing behind. A program of its own: it looks at the whole process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write;

use secret_resolver::testing::Canary;
use secret_resolver_session::{JwtFile, JwtSource};

#[test]
fn the_jwt_of_a_file_stands_once_in_memory_and_is_wiped() {
    let canary = Canary::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.jwt");
    let mut file = std::fs::File::create(&path).unwrap();
    // The canary is its signature.
    file.write_all(b"ab.cd.").unwrap();
    file.write_all(canary.value().unwrap().expose()).unwrap();
    file.write_all(b"\n").unwrap();
    drop(file);
    assert_eq!(canary.found().unwrap(), 0);
    let source = JwtFile::new(path);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let jwt = runtime.block_on(source.jwt()).unwrap();
    assert_eq!(jwt.secret().len(), 6 + Canary::LENGTH);
    assert_eq!(canary.found().unwrap(), 1);
    drop(jwt);
    assert_eq!(canary.found().unwrap(), 0);
}
