//! Each switch: what it changes, and that it changes nothing else.

use std::time::Duration;

use conjur_double::{ConjurDouble, Kind, Options, Prefix, Version};
use serde_json::{Value, json};

use crate::client::{Client, Response, header};

const SAAS: &str = "application/x.secretsmgr.v2beta+json";

fn with_value() -> (ConjurDouble, String) {
    let conjur = ConjurDouble::start().unwrap();
    conjur.add_host("reader");
    conjur.set("v", "value");
    conjur.allow_read("host:reader", "v");
    let token = conjur.token("host/reader");
    (conjur, token)
}

#[test]
fn without_its_database_the_server_says_500_to_everything() {
    let (conjur, token) = with_value();
    let mut client = Client::new(&conjur);
    conjur.set_outage(true);
    let key = conjur.key_of("host/reader");
    for target in [
        "/secrets/myorg/variable/v",
        "/secrets?variable_ids=myorg:variable:v",
        "/whoami",
        "/",
        "/authenticators",
        "/nowhere",
    ] {
        let response = client.get(target, &token);
        assert_eq!((response.status, response.body.len()), (500, 0), "{target}");
    }
    let login = client.ask(
        "POST",
        "/authn/myorg/host%2Freader/authenticate",
        &[],
        key.as_bytes(),
    );
    assert_eq!(login.status, 500);
    let json = client.ask("GET", "/whoami", &[("Accept", "application/json")], b"");
    assert_eq!(
        json.text(),
        r#"{"status":500,"error":"Internal Server Error"}"#
    );
    conjur.set_outage(false);
    assert_eq!(
        client.get("/secrets/myorg/variable/v", &token).text(),
        "value"
    );
}

#[test]
fn the_prefix_is_absent_or_accepted_or_required() {
    let (conjur, token) = with_value();
    let mut client = Client::new(&conjur);
    for (prefix, without, with) in [
        (Prefix::Absent, 200, 404),
        (Prefix::Accepted, 200, 200),
        (Prefix::Required, 404, 200),
    ] {
        conjur.set_prefix(prefix);
        let mut status = |target: &str| client.get(target, &token).status;
        assert_eq!(status("/secrets/myorg/variable/v"), without, "{prefix:?}");
        assert_eq!(status("/api/secrets/myorg/variable/v"), with, "{prefix:?}");
        let key = conjur.key_of("host/reader");
        let login = "/api/authn/myorg/host%2Freader/authenticate";
        let login = client.ask("POST", login, &[], key.as_bytes()).status;
        assert_eq!(login == 200, with == 200, "{prefix:?}");
    }
}

#[test]
fn the_services_batch_answers_each_id_by_itself_where_it_is_switched_on() {
    let (conjur, token) = with_value();
    conjur.set("w", "other");
    conjur.allow_read("host:reader", "w");
    conjur.set("denied", "x");
    conjur.grant("host:reader", &["read"], "denied");
    conjur.set("bytes", [0xff]);
    conjur.allow_read("host:reader", "bytes");
    let mut client = Client::new(&conjur);
    let authorization = header(&token);
    let mut ask = |accept: &str, body: &Value| -> Response {
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Accept", accept),
        ];
        client.ask(
            "POST",
            "/api/secrets/values",
            &headers,
            body.to_string().as_bytes(),
        )
    };
    let both = json!({"ids": ["w", "v"]});
    assert_eq!(ask(SAAS, &both).status, 404);
    conjur.set_saas(true);
    conjur.set_prefix(Prefix::Required);
    let good = ask(SAAS, &both);
    assert_eq!(
        (good.status, good.header("content-type")),
        (200, Some(SAAS))
    );
    let secrets: Value = serde_json::from_slice(&good.body).unwrap();
    let wanted = json!([
        {"id": "w", "value": "other", "status": 200},
        {"id": "v", "value": "value", "status": 200},
    ]);
    assert_eq!(secrets["secrets"], wanted);
    let mixed = ask(SAAS, &json!({"ids": ["v", "denied", "nowhere", "bytes"]}));
    let secrets: Value = serde_json::from_slice(&mixed.body).unwrap();
    let statuses = secrets["secrets"].as_array().unwrap().iter();
    let statuses: Vec<_> = statuses
        .map(|one| one["status"].as_u64().unwrap())
        .collect();
    assert_eq!((mixed.status, statuses), (207, vec![200, 403, 404, 406]));
    let many =
        |count: usize| json!({"ids": (0..count).map(|at| format!("v{at}")).collect::<Vec<_>>()});
    assert_eq!(ask(SAAS, &many(250)).status, 207);
    assert_eq!(
        (ask(SAAS, &many(251)).status, ask(SAAS, &many(0)).status),
        (422, 422)
    );
    assert_eq!(ask("application/json", &both).status, 400);
    assert_eq!(conjur.count(Kind::SaasBatch), 6);
}

#[test]
fn the_older_version_reads_permission_last_and_sends_chunks() {
    let (conjur, token) = with_value();
    conjur.set("denied", "x");
    let mut client = Client::new(&conjur);
    let both = "/secrets?variable_ids=myorg:variable:denied,myorg:variable:nowhere";
    assert_eq!(client.get(both, &token).status, 403);
    let read = "/secrets/myorg/variable/v";
    assert_eq!(client.get(read, &token).header("transfer-encoding"), None);
    conjur.set_version(Version::V1_22);
    assert_eq!(client.get(both, &token).status, 404);
    let chunked = client.get(read, &token);
    assert_eq!(
        (chunked.text(), chunked.header("content-length")),
        ("value", None)
    );
    let json = [("Accept", "application/json")];
    assert_eq!(
        client.ask("GET", "/", &json, b"").text(),
        r#"{"version":"1.22.2"}"#
    );
    // There a value that is not UTF-8 needs its type said.
    let admin = header(&conjur.token("admin"));
    let (untyped, typed) = (
        [("Authorization", admin.as_str())],
        [
            ("Authorization", admin.as_str()),
            ("Content-Type", "application/octet-stream"),
        ],
    );
    assert_eq!(client.ask("POST", read, &untyped, &[0xff]).status, 422);
    assert_eq!(client.ask("POST", read, &typed, &[0xff]).status, 201);
}

#[test]
fn a_follower_reads_and_logs_in_and_refuses_to_write() {
    let (conjur, token) = with_value();
    let follower = conjur.follower().unwrap();
    let mut client = Client::new(&follower);
    let read = "/secrets/myorg/variable/v";
    assert_eq!(client.get(read, &token).text(), "value");
    let key = conjur.key_of("host/reader");
    let login = client.ask(
        "POST",
        "/authn/myorg/host%2Freader/authenticate",
        &[],
        key.as_bytes(),
    );
    assert_eq!(login.status, 200);
    let admin = header(&conjur.token("admin"));
    let admin = [("Authorization", admin.as_str())];
    for (method, target) in [
        ("POST", read),
        ("PATCH", "/policies/myorg/policy/root"),
        ("PUT", "/authn/myorg/api_key"),
    ] {
        let response = client.ask(method, target, &admin, b"x");
        assert_eq!(response.status, 405, "{target}");
        assert!(response.text().contains("Write operations are not allowed"));
    }
    assert_eq!(
        (
            conjur.count_here(Kind::Secret),
            follower.count_here(Kind::Secret)
        ),
        (0, 1)
    );
}

#[test]
fn a_follower_that_lags_answers_from_what_was() {
    let (conjur, token) = with_value();
    let follower = conjur.follower().unwrap();
    let (mut ahead, mut behind) = (Client::new(&conjur), Client::new(&follower));
    let read = "/secrets/myorg/variable/v";
    follower.set_lagging(true);
    conjur.set("v", "newer");
    conjur.set("late", "x");
    assert_eq!(
        (
            ahead.get(read, &token).text(),
            behind.get(read, &token).text()
        ),
        ("newer", "value")
    );
    conjur.revoke_all("host:reader", "v");
    assert_eq!(
        (
            ahead.get(read, &token).status,
            behind.get(read, &token).status
        ),
        (404, 200)
    );
    let rotated = conjur.rotate_key("host/reader");
    let login = |client: &mut Client| {
        let target = "/authn/myorg/host%2Freader/authenticate";
        client.ask("POST", target, &[], rotated.as_bytes()).status
    };
    assert_eq!((login(&mut ahead), login(&mut behind)), (200, 401));
    follower.set_lagging(false);
    assert_eq!(
        (behind.get(read, &token).status, login(&mut behind)),
        (404, 200)
    );
}

#[test]
fn a_dynamic_secret_is_another_one_at_each_read() {
    let (conjur, token) = with_value();
    let id = "data/dynamic/aws";
    conjur.add_dynamic(id, Duration::from_secs(900));
    conjur.allow_read("host:reader", id);
    let mut client = Client::new(&conjur);
    let mut read = || -> Value {
        let response = client.get("/secrets/myorg/variable/data%2Fdynamic%2Faws", &token);
        assert!(
            response
                .header("content-type")
                .unwrap()
                .starts_with("application/json")
        );
        serde_json::from_slice(&response.body).unwrap()
    };
    let (first, second) = (read(), read());
    assert_eq!((first["ttl"].as_u64(), conjur.minted(id)), (Some(900), 2));
    assert_ne!(first["data"], second["data"]);
    conjur.revoke("host:reader", &["execute"], id);
    assert_eq!(
        client
            .get("/secrets/myorg/variable/data%2Fdynamic%2Faws", &token)
            .status,
        403
    );
    assert_eq!(conjur.minted(id), 2, "what is refused mints nothing");
}

#[test]
fn the_account_and_the_life_of_tokens_are_as_asked_at_the_start() {
    let mut options = Options::default();
    options.account = "other".to_owned();
    options.token_life = Duration::from_secs(7);
    options.saas = true;
    let conjur = options.start().unwrap();
    let key = conjur.add_host("x");
    let mut client = Client::new(&conjur);
    let token = client.ask(
        "POST",
        "/authn/other/host%2Fx/authenticate",
        &[],
        key.as_bytes(),
    );
    let whoami = client.get("/whoami", token.text());
    assert!(whoami.text().contains(r#""account":"other""#));
    conjur.advance(Duration::from_secs(8));
    assert_eq!(client.get("/whoami", token.text()).status, 401);
}
