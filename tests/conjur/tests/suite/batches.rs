//! The rules of the batch read, with other accounts, names and values than the recorded ones, in many mixtures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conjur_double::Version;
use serde_json::Value;

use crate::acme::{
    ACCOUNT, HOST, LOGIN, STATES, State, acme, arrange, not_readable, reader_by_groups,
};
use crate::client::{Client, Response, encode};
use crate::random::Random;

fn batch(ids: &[&str]) -> String {
    let ids = ids
        .iter()
        .map(|id| encode(&format!("{ACCOUNT}:variable:{id}")));
    format!(
        "/secrets?variable_ids={}",
        ids.collect::<Vec<_>>().join(",")
    )
}

fn in_base64(client: &mut Client, target: &str, token: &str) -> Response {
    let authorization = crate::client::header(token);
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Accept-Encoding", "base64"),
    ];
    client.ask("GET", target, &headers, b"")
}

/// What the rules say of a batch; the body of a 404 names the first id of its cause.
fn expected(ids: &[&str], states: &[State], version: Version) -> (u16, Option<String>) {
    let first = |wanted: &[State]| {
        let found = states.iter().position(|state| wanted.contains(state));
        found.map(|at| not_readable(ids[at]))
    };
    let denied = [State::Hidden, State::Seen, State::SeenUnset];
    let denied = states.iter().any(|state| denied.contains(state));
    let missing = first(&[State::Missing]);
    match (version, denied, missing) {
        (Version::V1_24, true, _) | (_, true, None) => (403, Some(String::new())),
        (_, _, Some(missing)) => (404, Some(missing)),
        (_, false, None) => match first(&[State::Unset]) {
            Some(unset) => (404, Some(unset)),
            None => (200, None),
        },
    }
}

#[test]
fn a_batch_is_answered_by_the_worst_that_is_in_it() {
    let conjur = acme();
    let token = reader_by_groups(&conjur);
    let mut client = Client::new(&conjur);
    let mut random = Random::new(11);
    let pool: Vec<_> = (0..18)
        .map(|at| (format!("v/{at}"), STATES[at % 6]))
        .collect();
    for (id, state) in &pool {
        arrange(&conjur, id, *state);
    }
    for round in 0..200 {
        let version = [Version::V1_24, Version::V1_22][round % 2];
        conjur.set_version(version);
        let mut chosen: Vec<_> = pool.iter().collect();
        random.shuffle(&mut chosen);
        // Readable ones are drawn more often, or nearly every batch would be refused.
        let often = random.below(3) > 0;
        chosen.retain(|(_, state)| !often || *state == State::Readable || random.below(9) == 0);
        chosen.truncate(1 + random.below(4));
        if chosen.is_empty() {
            continue;
        }
        let ids: Vec<_> = chosen.iter().map(|(id, _)| id.as_str()).collect();
        let states: Vec<_> = chosen.iter().map(|(_, state)| *state).collect();
        let response = in_base64(&mut client, &batch(&ids), &token);
        let (status, body) = expected(&ids, &states, version);
        assert_eq!(response.status, status, "{states:?} {version:?}");
        match body {
            Some(body) => assert_eq!(response.text(), body, "{states:?}"),
            None => {
                let values: Value = serde_json::from_slice(&response.body).unwrap();
                assert_eq!(values.as_object().unwrap().len(), ids.len());
                for id in &ids {
                    let value = values[format!("{ACCOUNT}:variable:{id}")].as_str().unwrap();
                    assert_eq!(value, STANDARD.encode(format!("value of {id}")) + "\n");
                }
            }
        }
    }
}

#[test]
fn base64_in_a_batch_ends_its_lines_after_sixty_letters() {
    let conjur = acme();
    let token = conjur.token(LOGIN);
    let mut client = Client::new(&conjur);
    for length in [1, 44, 45, 46, 90, 1000] {
        let value: Vec<u8> = (0..length).map(|at| (at * 37 % 256) as u8).collect();
        conjur.set("lines", &value);
        conjur.allow_read(HOST, "lines");
        let response = in_base64(&mut client, &batch(&["lines"]), &token);
        assert_eq!(response.header("content-encoding"), Some("base64"));
        let values: Value = serde_json::from_slice(&response.body).unwrap();
        let text = values[format!("{ACCOUNT}:variable:lines")]
            .as_str()
            .unwrap();
        let lines: Vec<_> = text.split_terminator('\n').collect();
        let (last, whole) = lines.split_last().unwrap();
        assert!(text.ends_with('\n') && !last.is_empty() && last.len() <= 60);
        assert!(whole.iter().all(|line| line.len() == 60), "{length}");
        assert_eq!(STANDARD.decode(lines.concat()).unwrap(), value);
    }
}

#[test]
fn a_batch_has_rules_for_its_list() {
    let conjur = acme();
    let token = conjur.token(LOGIN);
    let mut client = Client::new(&conjur);
    for id in ["x&<y>", "z, with a comma"] {
        conjur.set(id, "<&>");
        conjur.allow_read(HOST, id);
    }
    conjur.set("bytes", [0xff]);
    conjur.allow_read(HOST, "bytes");
    let mut ask = |target: &str| client.get(target, &token);
    let one = ask(&batch(&["x&<y>"]));
    let escaped = r#"{"acme-corp:variable:x\u0026\u003cy\u003e":"\u003c\u0026\u003e"}"#;
    assert_eq!((one.status, one.text()), (200, escaped));
    assert_eq!(one.header("content-encoding"), None);
    let first = ask(&format!("{},,", batch(&["x&<y>"])));
    assert_eq!(first.text(), escaped);
    let twice = ask(&batch(&["x&<y>", "bytes", "x&<y>"]));
    assert_eq!((twice.status, twice.body.len()), (500, 0));
    assert_eq!(ask(&batch(&["x&<y>", "bytes"])).status, 406);
    let cut = ask(&batch(&["z, with a comma"]));
    assert_eq!((cut.status, cut.text()), (404, not_readable("z").as_str()));
    for empty in [
        "/secrets",
        "/secrets?variable_ids",
        "/secrets?variable_ids=,,",
        "/secrets?x=1",
    ] {
        assert_eq!(ask(empty).status, 422, "{empty}");
    }
    assert_eq!(ask("/secrets?variable_ids=%FF").status, 400);
    let room = 10_240 - "variable_ids=".len();
    let fits = ask(&format!("/secrets?variable_ids={}", "a".repeat(room)));
    assert_eq!(fits.status, 404);
    let long = ask(&format!("/secrets?variable_ids={}", "a".repeat(room + 1)));
    assert_eq!((long.status, long.body.len()), (400, 0));
}
