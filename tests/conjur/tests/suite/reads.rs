//! The rules of reading one variable and of descriptions, with other accounts, names and values than the recorded ones, and in an
//! order of their own: what was recorded is a case of a rule here, so nothing of it can be written into the double.

use serde_json::Value;

use crate::acme::{
    ACCOUNT, HOST, LOGIN, STATES, State, acme, arrange, not_readable, reader_by_groups, secret,
};
use crate::client::{Client, encode};
use crate::random::Random;

#[test]
fn a_single_read_is_answered_by_what_the_reader_may_and_what_there_is() {
    let conjur = acme();
    let token = reader_by_groups(&conjur);
    let mut client = Client::new(&conjur);
    let mut states = STATES;
    Random::new(7).shuffle(&mut states);
    for state in states {
        let id = format!("Ünder/{state:?}/a b+c%d,e:f//g/");
        arrange(&conjur, &id, state);
        let response = client.get(&secret(&id), &token);
        let (status, body) = match state {
            State::Missing | State::Hidden | State::Unset => (404, not_readable(&id)),
            State::Seen | State::SeenUnset => (403, String::new()),
            State::Readable => (200, format!("value of {id}")),
        };
        assert_eq!(
            (response.status, response.text()),
            (status, body.as_str()),
            "{state:?}"
        );
    }
}

#[test]
fn an_etag_is_of_the_value_alone_and_permission_comes_before_it() {
    let conjur = acme();
    let token = conjur.token(LOGIN);
    let mut client = Client::new(&conjur);
    for (id, value) in [("one", "same"), ("two", "same"), ("three", "other")] {
        conjur.set(id, value);
        conjur.allow_read(HOST, id);
    }
    let tags: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|id| {
            client
                .get(&secret(id), &token)
                .header("etag")
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(tags[0] == tags[1] && tags[1] != tags[2], "{tags:?}");
    let authorization = crate::client::header(&token);
    let mut conditional = |id: &str, tag: &str| {
        let headers = [
            ("Authorization", authorization.as_str()),
            ("If-None-Match", tag),
        ];
        client.ask("GET", &secret(id), &headers, b"")
    };
    let unchanged = conditional("one", &tags[1]);
    assert_eq!(
        (unchanged.status, unchanged.header("content-type")),
        (304, None)
    );
    assert_eq!(conditional("one", &tags[2]).text(), "same");
    conjur.set("one", "changed");
    assert_eq!(conditional("one", &tags[0]).text(), "changed");
    conjur.revoke(HOST, &["execute"], "two");
    assert_eq!(conditional("two", &tags[1]).status, 403);
    conjur.revoke_all(HOST, "two");
    assert_eq!(conditional("two", &tags[1]).status, 404);
    let admin = crate::client::header(&conjur.token("admin"));
    let written = client.ask(
        "POST",
        &secret("three"),
        &[("Authorization", &admin), ("If-None-Match", &tags[2])],
        b"other",
    );
    assert_eq!(written.status, 201);
    let head = client.ask(
        "HEAD",
        &secret("three"),
        &[("Authorization", &authorization)],
        b"",
    );
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("5"))
    );
}

#[test]
fn twenty_versions_are_kept_and_a_second_life_begins_at_one() {
    let conjur = acme();
    let token = conjur.token(LOGIN);
    let mut client = Client::new(&conjur);
    let mut random = Random::new(3);
    conjur.set("deep", "first");
    conjur.allow_read(HOST, "deep");
    let mut written = vec!["first".to_owned()];
    for _ in 0..60 {
        let value = format!("value {}", random.below(4));
        let before = written.last() == Some(&value);
        let version = conjur.set("deep", &value);
        if !before {
            written.push(value);
        }
        assert_eq!(version, written.len() as u64);
    }
    let kept = (written.len() - 19) as u64..=written.len() as u64;
    assert_eq!(conjur.versions("deep"), kept.clone().collect::<Vec<_>>());
    for version in [
        0,
        1,
        *kept.start() - 1,
        *kept.start(),
        *kept.end(),
        *kept.end() + 1,
    ] {
        let response = client.get(&format!("{}?version={version}", secret("deep")), &token);
        match kept.contains(&version) {
            true => assert_eq!(response.text(), written[version as usize - 1]),
            false => assert_eq!(response.text(), not_readable("deep")),
        }
    }
    for (version, status) in [("-7", 404), ("7.0", 422), ("", 422), ("seven", 422)] {
        let response = client.get(&format!("{}?version={version}", secret("deep")), &token);
        assert_eq!(response.status, status, "{version:?}");
    }
    conjur.delete("deep");
    assert_eq!(client.get(&secret("deep"), &token).status, 404);
    assert_eq!(conjur.set("deep", "again"), 1);
    assert_eq!(
        client.get(&secret("deep"), &token).status,
        404,
        "its grants went with it"
    );
}

#[test]
fn descriptions_and_lists_show_what_may_be_seen_and_no_value() {
    let conjur = acme();
    let token = conjur.token(LOGIN);
    let mut client = Client::new(&conjur);
    for (at, id) in ["red/apple", "red/pear", "green/apple-tree", "green/hidden"]
        .iter()
        .enumerate()
    {
        conjur.set(id, format!("value {at}"));
        if *id != "green/hidden" {
            conjur.grant(HOST, &["read"], id);
        }
    }
    conjur.grant(HOST, &["update"], "red/pear");
    let mut json = |query: &str| -> Value {
        let response = client.get(&format!("/resources{query}"), &token);
        assert!(!response.text().contains("value "), "{query}");
        serde_json::from_slice(&response.body).unwrap_or(response.status.into())
    };
    let ids = |list: Value| -> Vec<String> {
        let items = list.as_array().unwrap().iter();
        items
            .map(|item| {
                item["id"]
                    .as_str()
                    .unwrap()
                    .rsplit(':')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    let all = format!("/{ACCOUNT}?kind=variable");
    assert_eq!(json(&format!("{all}&count=true"))["count"], 3);
    assert_eq!(
        ids(json(&all)),
        ["green/apple-tree", "red/apple", "red/pear"]
    );
    assert_eq!(
        ids(json(&format!("{all}&search=apple"))),
        ["green/apple-tree", "red/apple"]
    );
    assert_eq!(ids(json(&format!("{all}&search=apple+red"))), ["red/apple"]);
    assert_eq!(
        ids(json(&format!("/{ACCOUNT}/variable?limit=1&offset=1"))),
        ["red/apple"]
    );
    for bad in ["limit=0", "limit=x", "offset=-1"] {
        assert_eq!(
            json(&format!("{all}&{bad}"))["error"]["code"],
            "unprocessable_entity"
        );
    }
    let one = |id: &str, more: &str| format!("/{ACCOUNT}/variable/{}{more}", encode(id));
    assert_eq!(json(&one("red/pear", ""))["secrets"][0]["version"], 1);
    assert_eq!(
        json(&one("green/hidden", ""))["error"]["target"],
        "variable"
    );
    let may = |privilege: &str| format!("?check=true&privilege={privilege}");
    for (id, privilege, status) in [
        ("red/pear", "read", 204),
        ("red/pear", "update", 204),
        ("red/pear", "execute", 404),
        ("red/apple", "update", 404),
        ("green/hidden", "read", 404),
        ("nowhere", "read", 404),
    ] {
        assert_eq!(json(&one(id, &may(privilege))), status, "{id} {privilege}");
    }
    // The same of another role.
    for (role, status) in [("user:admin", 204), ("user:nobody", 404)] {
        let role = encode(&format!("{ACCOUNT}:{role}"));
        let asked = format!("{}&role={role}", may("update"));
        assert_eq!(json(&one("red/apple", &asked)), status, "{role}");
    }
}
