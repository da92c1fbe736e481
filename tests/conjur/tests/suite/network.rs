//! Ports, connections and their record.

use std::net::TcpStream;
use std::time::Duration;

use conjur_double::{ConjurDouble, Kind};

use crate::client::{Client, header};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_connection_is_kept_and_every_request_says_on_which_it_came() {
    let conjur = ConjurDouble::start().unwrap();
    let token = conjur.token("admin");
    let (mut first, mut second) = (Client::new(&conjur), Client::new(&conjur));
    first.get("/whoami", &token);
    second.get("/whoami", &token);
    first.get("/whoami", &token);
    let requests = conjur.requests();
    let connections: Vec<_> = requests.iter().map(|it| it.connection).collect();
    assert_eq!(connections, [0, 1, 0]);
    assert_eq!(
        requests[2].request.header("AUTHORIZATION"),
        Some(header(&token).as_str())
    );
    assert!(!format!("{requests:?}").contains("Token token"));
    assert_eq!(
        (conjur.count(Kind::Whoami), conjur.open_connections()),
        (3, 2)
    );
    drop(first);
    assert!(conjur.wait_for_open_connections(1, PATIENCE));
    let closing = [("Connection", "close")];
    assert_eq!(
        second.ask("GET", "/authenticators", &closing, b"").status,
        200
    );
    assert!(second.try_ask("GET", "/authenticators", &[], b"").is_err());
    conjur.forget_requests();
    assert_eq!(
        (conjur.requests().len(), conjur.connections().len()),
        (0, 2)
    );
}

#[test]
fn a_body_comes_with_its_length_or_in_chunks_and_after_a_question() {
    let conjur = ConjurDouble::start().unwrap();
    conjur.add_variable("v");
    let authorization = header(&conjur.token("admin"));
    let mut client = Client::new(&conjur);
    let target = "/secrets/myorg/variable/v";
    let chunked = [
        ("Authorization", authorization.as_str()),
        ("Transfer-Encoding", "chunked"),
    ];
    let written = client.ask(
        "POST",
        target,
        &chunked,
        b"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\n\r\n",
    );
    assert_eq!(
        (written.status, conjur.value("v").unwrap()),
        (201, b"abcde".to_vec())
    );
    let asking = [
        ("Authorization", authorization.as_str()),
        ("Expect", "100-continue"),
    ];
    assert_eq!(
        client.ask("POST", target, &asking, b"after all").status,
        100
    );
}

#[test]
fn a_server_is_stopped_and_started_again_at_its_port_with_its_state() {
    let conjur = ConjurDouble::start().unwrap();
    let token = conjur.token("admin");
    conjur.set("v", "value");
    let port = conjur.port();
    let mut client = Client::new(&conjur);
    for _ in 0..3 {
        conjur.stop();
        conjur.stop();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        assert!(client.try_ask("GET", "/authenticators", &[], b"").is_err());
        conjur.start_again().unwrap();
        conjur.start_again().unwrap();
        client = Client::new(&conjur);
        assert_eq!(
            client.get("/secrets/myorg/variable/v", &token).text(),
            "value"
        );
    }
    assert_eq!(conjur.port(), port);
    conjur.drop_connections();
    assert!(client.try_ask("GET", "/authenticators", &[], b"").is_err());
    assert_eq!(Client::new(&conjur).get("/whoami", &token).status, 200);
    drop(conjur);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn another_authority_is_another_one_by_its_key_alone() {
    let conjur = ConjurDouble::start().unwrap();
    let (before, other) = (conjur.ca_pem(), ConjurDouble::start().unwrap());
    conjur.change_ca().unwrap();
    assert_ne!(before, conjur.ca_pem());
    assert_eq!(
        Client::new(&conjur)
            .ask("GET", "/authenticators", &[], b"")
            .status,
        200
    );
    assert_ne!(other.ca_pem(), conjur.ca_pem());
    let endpoint = conjur.endpoint_too().unwrap();
    assert_eq!(endpoint.ca_pem(), conjur.ca_pem());
    assert_ne!(endpoint.port(), conjur.port());
    assert_eq!(
        Client::new(&endpoint)
            .ask("GET", "/authenticators", &[], b"")
            .status,
        200
    );
    assert_eq!(
        conjur
            .requests()
            .iter()
            .map(|it| it.endpoint)
            .collect::<Vec<_>>(),
        [0, 1]
    );
}

#[test]
fn many_connections_are_served_at_once() {
    let conjur = ConjurDouble::start().unwrap();
    conjur.set("v", "value");
    let token = conjur.token("admin");
    let mut clients: Vec<_> = (0..32).map(|_| Client::new(&conjur)).collect();
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(
                        client.get("/secrets/myorg/variable/v", &token).text(),
                        "value"
                    );
                }
            });
        }
    });
    assert_eq!(
        (conjur.count(Kind::Secret), conjur.open_connections()),
        (160, 32)
    );
}
