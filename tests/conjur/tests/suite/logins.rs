//! The rules of logging in and of tokens, with other names than the recorded ones.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conjur_double::{Algorithm, ConjurDouble, Host, Jwt, JwtKey, JwtService};

use crate::client::{Client, encode};

fn authenticate(client: &mut Client, login: &str, key: &str) -> u16 {
    let target = format!("/authn/myorg/{}/authenticate", encode(login));
    client.ask("POST", &target, &[], key.as_bytes()).status
}

#[test]
fn a_key_logs_its_own_role_in_until_it_is_rotated() {
    let conjur = ConjurDouble::start().unwrap();
    let mut client = Client::new(&conjur);
    let (first, second) = (conjur.add_host("a/1 %"), conjur.add_user("zoë@b"));
    assert_eq!(authenticate(&mut client, "host/a/1 %", &first), 200);
    assert_eq!(authenticate(&mut client, "zoë@b", &second), 200);
    assert_eq!(authenticate(&mut client, "zoë@b", &first), 401);
    assert_eq!(
        authenticate(&mut client, "host/a/1 %", &format!("{first}\n")),
        401
    );
    assert_eq!(authenticate(&mut client, "a/1 %", &first), 401);
    let basic = format!("Basic {}", STANDARD.encode(format!("zoë@b:{second}")));
    let login = client.ask(
        "GET",
        "/authn/myorg/login",
        &[("Authorization", &basic)],
        b"",
    );
    assert_eq!((login.status, login.text()), (200, second.as_str()));

    let rotated = client.ask(
        "PUT",
        "/authn/myorg/api_key",
        &[("Authorization", &basic)],
        b"",
    );
    assert_eq!(
        (rotated.status, rotated.text()),
        (200, conjur.key_of("zoë@b").as_str())
    );
    assert_eq!(authenticate(&mut client, "zoë@b", &second), 401);
    assert_eq!(authenticate(&mut client, "zoë@b", rotated.text()), 200);

    let basic = format!(
        "Basic {}",
        STANDARD.encode(format!("zoë@b:{}", rotated.text()))
    );
    for (role, status) in [("user:zo%C3%AB@b", 200), ("host:a%2F1%20%25", 401)] {
        let target = format!("/authn/myorg/api_key?role={role}");
        let headers = [("Authorization", basic.as_str())];
        assert_eq!(
            client.ask("PUT", &target, &headers, b"").status,
            status,
            "{role}"
        );
    }

    let admin = crate::client::header(&conjur.token("admin"));
    let other = "/authn/myorg/api_key?role=host%3Aa%2F1%20%25";
    let rotated = client.ask("PUT", other, &[("Authorization", &admin)], b"");
    assert_eq!(rotated.text(), conjur.key_of("host/a/1 %"));
    let host = crate::client::header(&conjur.token("host/a/1 %"));
    let refused = client.ask(
        "PUT",
        "/authn/myorg/api_key?role=user:admin",
        &[("Authorization", &host)],
        b"",
    );
    assert_eq!(refused.status, 401);
}

#[test]
fn a_role_logs_in_from_its_networks_alone() {
    let conjur = ConjurDouble::start().unwrap();
    let mut client = Client::new(&conjur);
    for (network, status) in [("192.168.0.0/16", 401), ("127.0.0.0/8", 200), ("::1", 401)] {
        let host = Host::new(network).restricted_to(network);
        let key = conjur.add_host_with(&host);
        assert_eq!(
            authenticate(&mut client, &format!("host/{network}"), &key),
            status
        );
    }
    let both = Host::new("both")
        .restricted_to("10.0.0.0/8")
        .restricted_to("127.0.0.1");
    let key = conjur.add_host_with(&both);
    assert_eq!(authenticate(&mut client, "host/both", &key), 200);
}

#[test]
fn a_token_ends_by_the_servers_clock_and_with_its_role_at_secrets_alone() {
    let conjur = ConjurDouble::start().unwrap();
    let mut client = Client::new(&conjur);
    conjur.add_host("brief");
    conjur.set("v", "value");
    conjur.allow_read("host:brief", "v");
    conjur.set_token_life(Duration::from_secs(60));
    let token = conjur.token("host/brief");
    let read = "/secrets/myorg/variable/v";
    conjur.advance(Duration::from_secs(58));
    assert_eq!(client.get(read, &token).status, 200);
    conjur.advance(Duration::from_secs(2));
    let ended = client.get(read, &token);
    assert_eq!(
        (ended.status, ended.text()),
        (401, "Unauthorized: Invalid token")
    );

    let token = conjur.token("host/brief");
    conjur.delete_role("host:brief");
    let statuses: Vec<_> = [
        read,
        "/secrets?variable_ids=myorg:variable:v",
        "/resources/myorg",
        "/whoami",
    ]
    .iter()
    .map(|target| client.get(target, &token).status)
    .collect();
    assert_eq!(statuses, [403, 403, 403, 200]);
}

#[test]
fn a_token_is_refused_for_what_is_wrong_with_it() {
    let conjur = ConjurDouble::start().unwrap();
    let other = ConjurDouble::start().unwrap();
    let mut client = Client::new(&conjur);
    conjur.add_host("x");
    for (token, status, body) in [
        (other.token("host/x"), 401, "Unauthorized: Invalid token"),
        (
            r#"{"protected":"e30="}"#.to_owned(),
            401,
            "Unauthorized: Invalid token",
        ),
        ("[1]".to_owned(), 401, "Unauthorized: Invalid token"),
        ("not JSON".to_owned(), 401, "Malformed authorization token"),
        (
            conjur.token_with_claims(r#"{"iat":9,"exp":99999999999,"sub":"host/x","more":1}"#),
            401,
            "token contains unrecognized claims",
        ),
        (
            conjur.token_with_claims(
                r#"{"iat":9,"exp":99999999999,"sub":"host/x","cidr":["10.0.0.0/8"]}"#,
            ),
            403,
            "IP address rejected",
        ),
    ] {
        // Before anything is routed: where nothing is, it is the same.
        for target in ["/whoami", "/nowhere"] {
            let response = client.get(target, &token);
            assert_eq!((response.status, response.text()), (status, body));
            assert_eq!(response.header("www-authenticate"), None);
        }
    }
    for scheme in [
        "",
        "Bearer x",
        "token token=\"x\"",
        "Token token=x",
        "Token  token=\"x\"",
        "Token token=\"x",
    ] {
        let headers = [("Authorization", scheme)];
        let response = client.ask("GET", "/nowhere", &headers, b"");
        assert_eq!(response.text(), "Authorization missing", "{scheme}");
    }
}

#[test]
fn the_roles_of_one_account_are_strangers_in_another() {
    let conjur = ConjurDouble::start().unwrap();
    let mut client = Client::new(&conjur);
    let key = conjur.add_account("theirs");
    conjur.set("v", "value");
    let mut login = |account: &str| {
        let target = format!("/authn/{account}/admin/authenticate");
        client.ask("POST", &target, &[], key.as_bytes())
    };
    let (theirs, ours) = (login("theirs"), login("myorg").status);
    assert_eq!((theirs.status, ours), (200, 401));
    let whoami = client.get("/whoami", theirs.text());
    assert!(
        whoami
            .text()
            .contains(r#""account":"theirs","username":"admin""#)
    );
    assert_eq!(
        client
            .get("/secrets/myorg/variable/v", theirs.text())
            .status,
        404
    );
    assert_eq!(
        client
            .get("/secrets/myorg/variable/v", &conjur.token("admin"))
            .text(),
        "value"
    );
}

/// What a service says to a JWT.
fn login(client: &mut Client, service: &str, jwt: &Jwt) -> (u16, String) {
    let target = format!("/authn-jwt/{service}/myorg/authenticate");
    let body = format!("a=b&jwt={}&c=d", jwt.mint());
    let response = client.ask("POST", &target, &[], body.as_bytes());
    (response.status, response.text().to_owned())
}

#[test]
fn a_service_takes_the_jwts_that_its_variables_and_the_hosts_annotations_allow() {
    let conjur = ConjurDouble::start().unwrap();
    let mut client = Client::new(&conjur);
    let service = JwtService::default()
        .issuer(Some("https://ci.acme.example"))
        .audience(Some("shop"))
        .token_app_property(Some("build/project"))
        .identity_path(Some("ci/projects"));
    conjur.add_authn_jwt("ci", &service);
    let host = Host::new("ci/projects/web")
        .annotation("authn-jwt/ci/ref", "main")
        .annotation("authn-jwt/ci/attempt", "2")
        .annotation("authn-jwt/other/ref", "elsewhere");
    conjur.add_host_with(&host);
    let good = conjur
        .jwt("anything")
        .claim("iss", "https://ci.acme.example")
        .claim("aud", "shop")
        .claim("build", serde_json::json!({"project": "web"}))
        .claim("ref", "main")
        .claim("attempt", 2);
    assert_eq!(
        login(&mut client, "ci", &good),
        (403, String::new()),
        "nobody may yet"
    );
    conjur.allow_login("host:ci/projects/web", "authn-jwt/ci");
    let (status, token) = login(&mut client, "ci", &good);
    assert_eq!(status, 200);
    assert!(
        client
            .get("/whoami", &token)
            .text()
            .contains(r#""username":"host/ci/projects/web""#)
    );

    let expired = (
        401,
        r#"{"error":{"code":"unauthorized","message":"CONJ00016E Token expired"}}"#.to_owned(),
    );
    for ends in [0, -1, -7200] {
        assert_eq!(
            login(&mut client, "ci", &good.clone().expires_in(ends)),
            expired
        );
    }
    let stranger = JwtKey::rsa("stranger").unwrap();
    let known = conjur.jwt_key().id().to_owned();
    let list = serde_json::json!(["bank", "shop"]);
    for (what, jwt, status) in [
        (
            "another issuer",
            good.clone().claim("iss", "https://ci.acme.example/"),
            401,
        ),
        ("another audience", good.clone().claim("aud", "bank"), 401),
        ("one of two audiences", good.clone().claim("aud", list), 200),
        (
            "another project",
            good.clone()
                .claim("build", serde_json::json!({"project": "api"})),
            401,
        ),
        ("no project", good.clone().without("build"), 401),
        ("another branch", good.clone().claim("ref", "dev"), 401),
        ("no branch", good.clone().without("ref"), 401),
        ("another attempt", good.clone().claim("attempt", 3), 401),
        ("from the future", good.clone().time("iat", 30), 401),
        ("not begun", good.clone().time("nbf", 30), 401),
        ("begun", good.clone().time("nbf", 0), 200),
        ("without an end", good.clone().without("exp"), 401),
        ("SHA-384", good.clone().algorithm(Algorithm::Rs384), 200),
        ("SHA-512", good.clone().algorithm(Algorithm::Rs512), 200),
        ("no signature", good.clone().algorithm(Algorithm::None), 401),
        ("a stranger's key", good.clone().signed_by(&stranger), 401),
        (
            "a stranger in our name",
            good.clone().signed_by(&stranger).key_id(Some(&known)),
            401,
        ),
        ("nobody's name", good.clone().key_id(None), 401),
    ] {
        assert_eq!(login(&mut client, "ci", &jwt).0, status, "{what}");
    }
    // A workload whose clock is ahead is taken once the server's has caught up.
    let ahead = good.clone().time("iat", 30);
    conjur.advance(Duration::from_secs(30));
    assert_eq!(login(&mut client, "ci", &ahead).0, 200);
    conjur.set_back(Duration::from_secs(60));
    assert_eq!(
        login(&mut client, "ci", &good).0,
        401,
        "the server's own clock is behind"
    );
    conjur.advance(Duration::from_secs(30));
    // Keys are exchanged without anything else.
    conjur.set_jwt_keys("ci", &[stranger.jwk()]);
    assert_eq!(login(&mut client, "ci", &good).0, 401);
    assert_eq!(
        login(&mut client, "ci", &good.clone().signed_by(&stranger)).0,
        200
    );
    conjur.set_enabled("authn-jwt/ci", false);
    assert_eq!(
        login(&mut client, "ci", &good.clone().signed_by(&stranger)).0,
        401
    );
    assert_eq!(login(&mut client, "nowhere", &good).0, 401);
}

#[test]
fn a_service_or_a_host_that_is_set_up_amiss_lets_nobody_in() {
    let conjur = ConjurDouble::start().unwrap();
    let mut client = Client::new(&conjur);
    let jwt = conjur.jwt("x").claim("jti", "1");
    for (at, annotation, value, status) in [
        (0, "sub", "x", 200),
        // Of the claims that every JWT has, none says which host it is.
        (1, "jti", "1", 401),
        (2, "iss", "https://issuer.example", 401),
        (3, "aud", "conjur", 401),
    ] {
        let (service, path) = (format!("s{at}"), format!("p{at}"));
        let how = JwtService::default().identity_path(Some(&path));
        conjur.add_authn_jwt(&service, &how);
        let host = Host::new(&format!("{path}/x"));
        let annotation = format!("authn-jwt/{service}/{annotation}");
        conjur.add_host_with(&host.annotation(&annotation, value));
        conjur.allow_login(&format!("host:{path}/x"), &format!("authn-jwt/{service}"));
        assert_eq!(login(&mut client, &service, &jwt).0, status, "{annotation}");
    }
    // Keys that stand in a variable say nothing of an issuer.
    let how = JwtService::default().issuer(None).identity_path(Some("p0"));
    conjur.add_authn_jwt("s0-without", &how);
    conjur.annotate("host:p0/x", "authn-jwt/s0-without/sub", "x");
    conjur.allow_login("host:p0/x", "authn-jwt/s0-without");
    assert_eq!(
        login(&mut client, "s0-without", &jwt.clone().without("iss")).0,
        401
    );
    assert_eq!(login(&mut client, "s0-without", &jwt).0, 401);
    // There is one source of keys.
    conjur.set(
        "conjur/authn-jwt/s0/jwks-uri",
        "https://issuer.example/keys",
    );
    assert_eq!(login(&mut client, "s0", &jwt).0, 401);
}

#[test]
fn a_login_stands_in_the_url_or_in_the_jwt_and_never_in_both() {
    let conjur = ConjurDouble::start().unwrap();
    let mut client = Client::new(&conjur);
    conjur.add_authn_jwt("by-claim", &JwtService::default().identity_path(None));
    conjur.add_authn_jwt("by-url", &JwtService::with_login_in_url());
    let host = Host::new("w 1")
        .annotation("authn-jwt/by-claim/sub", "w 1")
        .annotation("authn-jwt/by-url/sub", "w 1");
    conjur.add_host_with(&host);
    for service in ["authn-jwt/by-claim", "authn-jwt/by-url"] {
        conjur.allow_login("host:w 1", service);
    }
    let body = format!("jwt={}", conjur.jwt("w 1").mint());
    let mut status = |path: &str| {
        let target = format!("/authn-jwt/{path}/authenticate");
        client.ask("POST", &target, &[], body.as_bytes()).status
    };
    assert_eq!(status("by-claim/myorg"), 200);
    assert_eq!(status("by-url/myorg/host%2Fw%201"), 200);
    assert_eq!(status("by-url/myorg/w%201"), 401, "a user's login");
    assert_eq!(status("by-url/myorg"), 401);
    assert_eq!(status("by-claim/myorg/host%2Fw%201"), 401);
    assert_eq!(status("by-url/myorg/host/w%201"), 404);
}
