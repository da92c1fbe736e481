//! Client certificates: on the connection, and as a login.

use conjur_double::{CertService, ClientCa, ClientCertificates, ConjurDouble, Host};

use crate::client::{Client, config};

const MODES: [ClientCertificates; 3] = [
    ClientCertificates::Off,
    ClientCertificates::Optional,
    ClientCertificates::Required,
];

#[test]
fn a_certificate_is_asked_for_or_needed_or_not_wanted() {
    let conjur = ConjurDouble::start().unwrap();
    let own = conjur.client_ca().issue(Some("own"), &[]).unwrap();
    let strange = ClientCa::new().unwrap().issue(Some("own"), &[]).unwrap();
    for mode in MODES {
        conjur.set_client_certificates(mode).unwrap();
        let works = |certificate| {
            let client = Client::with_certificate(&conjur, certificate);
            // In TLS 1.3 a refusal comes after what the client takes for the end of the handshake.
            client.and_then(|mut client| client.try_ask("GET", "/authenticators", &[], b""))
        };
        let before = conjur.peer_certificates().len();
        assert!(works(Some(&own)).is_ok(), "{mode:?}");
        let after = conjur.peer_certificates();
        assert_eq!(
            after.len() - before,
            usize::from(mode != ClientCertificates::Off)
        );
        assert!(after.iter().all(|seen| *seen == own.der));
        assert_eq!(
            works(None).is_ok(),
            mode != ClientCertificates::Required,
            "{mode:?}"
        );
        assert_eq!(
            works(Some(&strange)).is_ok(),
            mode == ClientCertificates::Off,
            "{mode:?}"
        );
    }
    let failed = conjur
        .connections()
        .iter()
        .filter(|it| !it.established)
        .count();
    assert_eq!(failed, 3);
}

#[test]
fn certificates_of_another_authority_are_taken_once_it_is_named() {
    let conjur = ConjurDouble::start().unwrap();
    let required = ClientCertificates::Required;
    conjur.set_client_certificates(required).unwrap();
    let other = ClientCa::new().unwrap();
    let issued = other.issue(Some("other"), &[]).unwrap();
    let works = || {
        let client = Client::with_certificate(&conjur, Some(&issued));
        client.and_then(|mut client| client.try_ask("GET", "/authenticators", &[], b""))
    };
    assert!(works().is_err());
    conjur.trust_clients_of(other.pem()).unwrap();
    assert!(works().is_ok());
    conjur.trust_clients_of("").unwrap();
    assert!(works().is_err());
}

#[test]
fn a_connection_that_goes_on_from_another_shows_as_one_with_the_same_certificate() {
    let conjur = ConjurDouble::start().unwrap();
    conjur
        .set_client_certificates(ClientCertificates::Optional)
        .unwrap();
    let own = conjur.client_ca().issue(Some("own"), &[]).unwrap();
    let (kept, other) = (config(&conjur, Some(&own)), config(&conjur, Some(&own)));
    for config in [&kept, &kept, &other] {
        let mut client = Client::with_config(&conjur, config).unwrap();
        // What it takes to go on comes with the first answer.
        assert_eq!(client.ask("GET", "/authenticators", &[], b"").status, 200);
    }
    let connections = conjur.connections();
    let resumed: Vec<_> = connections.iter().map(|it| it.resumed).collect();
    assert_eq!(resumed, [false, true, false]);
    assert_eq!(
        conjur.peer_certificates(),
        [(); 3].map(|()| own.der.clone())
    );
}

#[test]
fn a_certificate_logs_in_where_that_is_switched_on() {
    let conjur = ConjurDouble::start().unwrap();
    conjur
        .set_client_certificates(ClientCertificates::Optional)
        .unwrap();
    let certificate = conjur
        .client_ca()
        .issue(Some("vm-7"), &["spiffe://td.example/web/1"])
        .unwrap();
    let mut client = Client::with_certificate(&conjur, Some(&certificate)).unwrap();
    let mut bare = Client::new(&conjur);
    let by_name = "/authn-cert/named/myorg/host%2Fvm%2F7/authenticate";
    let by_uri = "/authn-cert/mesh/myorg/authenticate";
    assert_eq!(client.ask("POST", by_uri, &[], b"").status, 404);

    conjur.add_authn_cert("named", &CertService::Request);
    let mesh = CertService::Spiffe {
        trust_domain: "td.example".to_owned(),
        identity_path: "mesh/hosts".to_owned(),
    };
    conjur.add_authn_cert("mesh", &mesh);
    conjur.add_host_with(&Host::new("vm/7").annotation("authn-cert/cn", "vm-7"));
    conjur.add_host_with(&Host::new("vm/8").annotation("authn-cert/cn", "vm-8"));
    conjur.add_host("mesh/hosts/web/1");
    assert_eq!(client.ask("POST", by_uri, &[], b"").status, 403);
    for (role, service) in [
        ("host:vm/7", "named"),
        ("host:vm/8", "named"),
        ("host:mesh/hosts/web/1", "mesh"),
    ] {
        conjur.allow_login(role, &format!("authn-cert/{service}"));
    }
    for (target, login) in [(by_name, "host/vm/7"), (by_uri, "host/mesh/hosts/web/1")] {
        let token = client.ask("POST", target, &[], b"");
        assert_eq!(token.status, 200, "{target}");
        let whoami = client.get("/whoami", token.text());
        assert!(whoami.text().contains(&format!(r#""username":"{login}""#)));
        assert_eq!(
            bare.ask("POST", target, &[], b"").status,
            401,
            "without a certificate"
        );
    }
    let mut status = |target: &str| client.ask("POST", target, &[], b"").status;
    assert_eq!(status("/authn-cert/named/myorg/vm%2F7/authenticate"), 200);
    assert_eq!(
        status("/authn-cert/named/myorg/host%2Fvm%2F8/authenticate"),
        401
    );
    assert_eq!(status("/authn-cert/named/myorg/authenticate"), 401);
    assert_eq!(
        status("/authn-cert/mesh/myorg/host%2Fvm%2F7/authenticate"),
        401
    );

    for uris in [
        &["spiffe://other.example/web/1"] as &[&str],
        &["spiffe://td.example/web/1", "spiffe://td.example/x"],
        &[],
        &["spiffe://td.examplexx/web/1"],
    ] {
        let other = conjur.client_ca().issue(None, uris).unwrap();
        let mut client = Client::with_certificate(&conjur, Some(&other)).unwrap();
        assert_eq!(client.ask("POST", by_uri, &[], b"").status, 401, "{uris:?}");
    }
}
