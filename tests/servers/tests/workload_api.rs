//! The scripted Workload API and the real SPIRE, by a client that shares no code with ours: what one answers, the other does.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use test_servers::{
    Answer, Registration, Spire, SvidFlaw, TestTrustDomain, WorkloadApi, WorkloadMethod,
    X509Message, jwt_bundles_message, jwt_message, x509_bundles_message,
};

const PATH: &str = "/billing";
const AUDIENCE: &str = "bao";

/// Runs the client; what each of its calls came to.
fn run(socket: &Path, id: &str) -> Value {
    let python = test_servers::tools::spiffe_client().unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/client_of_spiffe.py");
    // Without our environment, so that no proxy and no search path of ours is between the two.
    let mut child = Command::new(python)
        .arg("-I")
        .arg(script)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let wanted = json!({
        "endpoint": format!("unix://{}", socket.display()),
        "id": id,
        "audience": AUDIENCE,
    });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(wanted.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the client's program failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What holds for both.
fn is_a_workload_api(got: &Value, id: &str, chain: usize) {
    let x509 = json!({"id": id, "chain": chain, "fits": true});
    assert_eq!(got["x509"], x509, "{got}");
    assert_eq!(got["all x509"][0], x509);
    assert_eq!(got["jwt"]["id"], id, "{got}");
    assert_eq!(got["jwt"]["audience"], json!([AUDIENCE]));
    assert_eq!(got["x509 bundles"], 1, "{got}");
    assert_eq!(
        got["jwt bundles"].as_array().map(Vec::len),
        Some(1),
        "{got}"
    );
    let refused = json!({
        "status": "INVALID_ARGUMENT",
        "says": "security header missing from request",
    });
    for call in ["x509 without metadata", "jwt without metadata"] {
        assert_eq!(got[call], refused);
    }
}

#[test]
fn a_foreign_client_gets_from_the_double_what_it_is_told_to_give() {
    let domain = TestTrustDomain::new("example.test").unwrap();
    let api = WorkloadApi::start().unwrap();
    let svid = domain.flawed_svid(PATH, SvidFlaw::Intermediate).unwrap();
    let second = domain.svid("/second").unwrap();
    api.show(&X509Message::of(&[svid, second]));
    let id = domain.id(PATH);
    let token = domain
        .jwt(PATH, AUDIENCE, Duration::from_secs(300))
        .unwrap();
    let answer = Answer::one(&jwt_message(&[(&id, &token)]));
    api.answer(WorkloadMethod::JwtSvid, answer);
    let trust_domain = domain.id("");
    let roots = [(trust_domain.clone(), domain.bundle())];
    let answer = Answer::message(&x509_bundles_message(&roots));
    api.answer(WorkloadMethod::X509Bundles, answer);
    let keys = domain.jwts().key_set("first").to_string().into_bytes();
    let answer = Answer::message(&jwt_bundles_message(&[(trust_domain, keys)]));
    api.answer(WorkloadMethod::JwtBundles, answer);

    let got = run(&api.socket(), &id);
    is_a_workload_api(&got, &id, 2);
    assert_eq!(got["all x509"].as_array().map(Vec::len), Some(2));
    assert_eq!(got["jwt"]["token"], json!(token));
    let calls = api.all_calls();
    let asked = calls
        .iter()
        .find(|call| call.method == WorkloadMethod::JwtSvid)
        .unwrap();
    assert_eq!(
        (asked.audiences.as_slice(), &asked.id),
        (&[AUDIENCE.to_owned()][..], &id)
    );
}

#[test]
fn a_foreign_client_is_refused_by_the_double_as_it_is_told_to() {
    let api = WorkloadApi::start().unwrap();
    let got = run(&api.socket(), "spiffe://example.test/billing");
    for call in ["x509", "jwt", "x509 bundles", "jwt bundles"] {
        let said = got[call]["says"].as_str().unwrap();
        assert!(said.contains("PERMISSION_DENIED"), "{call}: {said}");
        assert!(said.contains("no identity issued"), "{call}: {said}");
    }
}

#[test]
fn the_same_client_gets_the_same_from_a_real_spire() {
    let spire = Spire::start().unwrap();
    let entry = Registration::new(PATH, spire.uid());
    spire.register(&entry).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    let id = spire.id(PATH);
    is_a_workload_api(&run(&spire.socket(), &id), &id, 1);
}
