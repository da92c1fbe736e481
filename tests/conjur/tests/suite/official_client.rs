//! Conjur's own Python client against the double: what it can do with a real server, it does here too.

use std::io::Write as _;
use std::process::{Command, Stdio};

use conjur_double::{ConjurDouble, Host, JwtService, Kind};
use serde_json::{Value, json};

use crate::exchanges::package;

const SUBJECT: &str = "spiffe://example.org/billing";

/// Runs the client; what each of its operations came to.
fn run(arguments: &Value) -> Value {
    let python = test_servers::tools::conjur_client().unwrap();
    let script = package().join("tests/suite/client_of_conjur.py");
    // Without our environment, so that no proxy and no search path of ours is between the two.
    let mut child = Command::new(python)
        .arg("-I")
        .arg(script)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(arguments.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the client's program failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn conjurs_own_client_gets_what_it_asks_the_double_for() {
    let conjur = ConjurDouble::start().unwrap();
    let key = conjur.add_host("tools/python");
    conjur.add_host("tools/other");
    let odd = "team a/100% of+it?x=1&y#z, ключ";
    for (id, value) in [
        ("shop/db", "first"),
        ("shop/db", "second"),
        ("shop/user", "app"),
        (odd, "odd"),
    ] {
        conjur.set(id, value);
    }
    for id in ["shop/db", "shop/user", odd] {
        conjur.allow_read("host:tools/python", id);
    }
    conjur.set("shop/seen", "not to be read");
    conjur.grant("host:tools/python", &["read"], "shop/seen");
    conjur.set("shop/hidden", "not to be seen");
    conjur.add_variable("shop/written");
    conjur.add_authn_jwt("tools", &JwtService::default());
    let workload = format!("workloads/{SUBJECT}");
    conjur.add_host_with(&Host::new(&workload).annotation("authn-jwt/tools/sub", SUBJECT));
    conjur.allow_login(&format!("host:{workload}"), "authn-jwt/tools");
    conjur.allow_read(&format!("host:{workload}"), "shop/db");

    let folder = tempfile::tempdir().unwrap();
    let (ca_file, policy_file) = (
        folder.path().join("ca.pem"),
        folder.path().join("policy.yml"),
    );
    std::fs::write(&ca_file, conjur.ca_pem()).unwrap();
    std::fs::write(&policy_file, "- !host made/by-policy\n").unwrap();
    let old_key = conjur.key_of("host/tools/other");
    let got = run(&json!({
        "url": conjur.origin(),
        "account": conjur.account(),
        "ca_file": ca_file,
        "login": "host/tools/python",
        "key": key,
        "admin_key": conjur.key_of("admin"),
        "variables": ["shop/db", odd, "shop/seen", "shop/hidden", "shop/nowhere"],
        "versioned": "shop/db",
        "batch": ["shop/user", "shop/db"],
        "denied": "shop/seen",
        "word": "user",
        "written": "shop/written",
        "policy_file": policy_file,
        "rotated": "tools/other",
        "service": "tools",
        "jwt": conjur.jwt(SUBJECT).mint(),
        "expired_jwt": conjur.jwt(SUBJECT).expires_in(-1).mint(),
    }));

    let refused = |status: u16| json!({ "refused": status });
    for (operation, wanted) in [
        ("login", json!(key)),
        ("version", json!("1.24.0")),
        ("get shop/db", json!("second")),
        ("get team a/100% of+it?x=1&y#z, ключ", json!("odd")),
        ("get shop/seen", refused(403)),
        ("get shop/hidden", refused(404)),
        ("get shop/nowhere", refused(404)),
        ("get version 1", json!("first")),
        ("get version 99", refused(404)),
        ("get_many", json!({"shop/db": "second", "shop/user": "app"})),
        ("get_many with one denied", refused(403)),
        ("find", json!(["myorg:variable:shop/user"])),
        ("exists", json!(true)),
        ("does not exist", json!(false)),
        ("may read", json!(true)),
        ("may write", json!(false)),
        ("writes without the right", refused(403)),
        ("wrong key", refused(401)),
        ("set", json!(null)),
        ("set nothing", refused(422)),
        ("rotate another's", json!(conjur.key_of("host/tools/other"))),
        (
            "rotate one's own",
            json!(conjur.key_of("host/tools/python")),
        ),
        ("jwt get", json!("second")),
        ("expired jwt", refused(401)),
    ] {
        assert_eq!(got[operation], wanted, "{operation}");
    }
    assert_eq!(got["whoami"]["username"], "host/tools/python");
    assert_eq!(got["jwt whoami"]["username"], format!("host/{workload}"));
    let listed = got["list"].as_array().unwrap();
    assert_eq!(listed.len(), 4, "{listed:?}");
    let versions = got["resource"]["secrets"].as_array().unwrap();
    assert_eq!(versions.last().unwrap()["version"], 2);
    let made = &got["load policy"]["created_roles"]["myorg:host:made/by-policy"];
    assert_eq!(made["api_key"], json!(conjur.key_of("host/made/by-policy")));
    assert_ne!(old_key, conjur.key_of("host/tools/other"));
    assert_eq!(
        conjur.value("shop/written").unwrap(),
        b"written by the client"
    );
    assert_eq!(
        (conjur.count(Kind::Batch), conjur.count(Kind::Login)),
        (2, 1)
    );
}
