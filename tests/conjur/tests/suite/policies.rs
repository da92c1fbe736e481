//! Policies with other contents than the recorded ones.

use conjur_double::ConjurDouble;
use serde_json::Value;

use crate::client::{Client, Response, header};

const SHOP: &str = "
- !policy
  id: shop
  body:
  - !user ann
  - !host web
  - !layer tills
  - !grant
    role: !layer tills
    member: !host web
  - &all
    - !variable card
    - !variable
      id: cash
      annotations:
        conjur/mime_type: text/plain
  - !permit
    role: !layer tills
    privilege: [ read, execute ]
    resources: *all
  - !permit
    role: !user ann
    privileges: update
    resource: !variable cash
";

fn load(conjur: &ConjurDouble, method: &str, policy: &str, text: &str, login: &str) -> Response {
    let authorization = header(&conjur.token(login));
    let target = format!("/policies/myorg/policy/{policy}");
    Client::new(conjur).ask(
        method,
        &target,
        &[("Authorization", &authorization)],
        text.as_bytes(),
    )
}

#[test]
fn a_policy_makes_what_it_says_and_another_takes_it_away() {
    let conjur = ConjurDouble::start().unwrap();
    let made = load(&conjur, "POST", "root", SHOP, "admin");
    let answer: Value = serde_json::from_slice(&made.body).unwrap();
    let created: Vec<_> = answer["created_roles"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(created, ["myorg:host:shop/web", "myorg:user:ann@shop"]);
    assert_eq!((made.status, answer["version"].as_u64()), (201, Some(1)));

    let (web, ann) = (conjur.token("host/shop/web"), conjur.token("ann@shop"));
    let mut client = Client::new(&conjur);
    let written = client.ask(
        "POST",
        "/secrets/myorg/variable/shop%2Fcash",
        &[("Authorization", &header(&ann))],
        b"12",
    );
    assert_eq!(written.status, 201);
    let read = client.get("/secrets/myorg/variable/shop%2Fcash", &web);
    assert_eq!(
        (read.text(), read.header("content-type")),
        ("12", Some("text/plain"))
    );
    assert_eq!(
        client
            .get("/secrets/myorg/variable/shop%2Fcash", &ann)
            .status,
        403
    );

    let revoked = "- !revoke\n  role: !layer tills\n  member: !host web\n";
    assert_eq!(load(&conjur, "PATCH", "shop", revoked, "admin").status, 201);
    assert_eq!(
        client
            .get("/secrets/myorg/variable/shop%2Fcash", &web)
            .status,
        404
    );

    let replaced = load(
        &conjur,
        "PUT",
        "root",
        "- !policy shop\n- !variable new\n",
        "admin",
    );
    assert_eq!(replaced.status, 201);
    assert_eq!(
        (conjur.value("shop/cash"), conjur.key_of("host/shop/web")),
        (None, String::new())
    );
    assert_eq!(
        load(
            &conjur,
            "PATCH",
            "root",
            "- !delete\n  record: !variable new\n",
            "admin"
        )
        .status,
        201
    );
}

#[test]
fn a_policy_that_cannot_be_carried_out_changes_nothing() {
    let conjur = ConjurDouble::start().unwrap();
    conjur.add_host("mere");
    conjur.grant_on("host:mere", &["read"], "policy:root");
    let first = "- !variable made-first\n";
    for (method, rest, login, status) in [
        (
            "POST",
            "- !permit\n  role: !host nobody\n  privileges: read\n  resource: !variable made-first\n",
            "admin",
            404,
        ),
        ("POST", "- !surprise\n", "admin", 422),
        (
            "POST",
            "- !delete\n  record: !variable made-first\n",
            "admin",
            422,
        ),
        ("PATCH", "nonsense\n", "admin", 422),
        ("PATCH", "", "host/mere", 403),
    ] {
        let response = load(&conjur, method, "root", &format!("{first}{rest}"), login);
        assert_eq!(response.status, status, "{rest}");
    }
    conjur.add_variable("made-first");
    let unseen = load(&conjur, "POST", "nowhere", first, "admin");
    assert_eq!(unseen.status, 404);
    let good = load(&conjur, "POST", "root", first, "admin");
    assert!(good.text().ends_with(r#""version":1}"#), "{}", good.text());
}
