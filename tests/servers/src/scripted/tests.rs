//! The scripted server against a client of a few lines, which shares no code with it except rustls.

use std::io::{self, Read, Write};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::{TestCa, Validity};

type Client = StreamOwned<ClientConnection, TcpStream>;

const PATIENCE: Duration = Duration::from_secs(20);
const NOW: Validity = Validity::CURRENT;

fn server(reply: Reply) -> (TestCa, ScriptedHttps) {
    let ca = TestCa::new(NOW).unwrap();
    let certificate = ca.issue(&["127.0.0.1", "localhost"], NOW).unwrap();
    let server = ScriptedHttps::start(&certificate, move |_| reply.clone()).unwrap();
    (ca, server)
}

fn connect(ca: &TestCa, server: &ScriptedHttps, name: &'static str) -> Client {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap(),
        stream,
    )
}

fn ask(client: &mut Client) {
    client.write_all(b"POST /v1/x?y=z HTTP/1.1\r\nHost: h\r\nX-Vault-Token: t\r\nContent-Length: 4\r\n\r\nbody").unwrap();
}

/// What a server answers until it closes, or until `limit` bytes have come.
fn answer(reply: Reply, limit: u64) -> io::Result<String> {
    let (ca, server) = server(reply);
    let mut client = connect(&ca, &server, "127.0.0.1");
    ask(&mut client);
    let mut text = String::new();
    client.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_full_answer_is_sent_and_the_request_recorded_and_the_connection_kept() {
    let (ca, server) = server(Reply::json(418, "{}"));
    let mut client = connect(&ca, &server, "localhost");
    let expected =
        "HTTP/1.1 418 Scripted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    for _ in 0..2 {
        ask(&mut client);
        let mut bytes = vec![0; expected.len()];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
    let requests = server.requests();
    assert_eq!((requests.len(), server.connections()), (2, 1));
    assert_eq!(
        (requests[0].method.as_str(), requests[0].target.as_str()),
        ("POST", "/v1/x?y=z")
    );
    assert_eq!(
        (
            requests[0].header("x-vault-token"),
            requests[0].body.as_slice()
        ),
        (Some("t"), b"body".as_slice())
    );
}

#[test]
fn raw_bytes_are_sent_verbatim() {
    assert_eq!(
        answer(Reply::Raw(b"not HTTP".to_vec()), u64::MAX).unwrap(),
        "not HTTP"
    );
}

#[test]
fn a_truncated_answer_promises_more_than_it_sends() {
    let text = answer(
        Reply::Truncated {
            declared: 9,
            body: b"abc".to_vec(),
        },
        u64::MAX,
    )
    .unwrap();
    assert!(
        text.contains("Content-Length: 9\r\n") && text.ends_with("\r\n\r\nabc"),
        "{text}"
    );
}

#[test]
fn an_endless_answer_goes_on_and_ends_with_its_reader() {
    assert_eq!(answer(Reply::Endless, 3 << 20).unwrap().len(), 3 << 20);
}

#[test]
fn a_dripping_answer_comes_byte_by_byte() {
    let byte_every = Duration::from_millis(1);
    let body = answer(Reply::Drip { byte_every }, 100).unwrap();
    assert!(body.contains("\r\n\r\naaa"), "{body}");
    let head = answer(Reply::DripHead { byte_every }, 100).unwrap();
    assert!(head.ends_with('a') && !head.contains("\r\n\r\n"), "{head}");
}

#[test]
fn a_silent_server_reads_the_request_and_sends_nothing() {
    let (ca, server) = server(Reply::Silent);
    let mut client = connect(&ca, &server, "127.0.0.1");
    ask(&mut client);
    assert!(server.wait_for_requests(1, PATIENCE));
    assert!(!server.wait_for_requests(2, Duration::from_millis(1)));
    client
        .sock
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let kind = client.read(&mut [0]).unwrap_err().kind();
    assert!(
        matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        "{kind:?}"
    );
}

#[test]
fn a_server_that_closes_at_once_does_not_even_end_tls() {
    assert_eq!(
        answer(Reply::CloseAtOnce, u64::MAX).unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn dropping_the_server_ends_its_connections_and_its_port() {
    let (ca, server) = server(Reply::Drip {
        byte_every: Duration::from_secs(3600),
    });
    let mut client = connect(&ca, &server, "127.0.0.1");
    ask(&mut client);
    assert!(server.wait_for_requests(1, PATIENCE));
    let port = server.port();
    drop(server);
    assert!(client.read_to_end(&mut Vec::new()).is_err());
    // The accepting thread closes the port on its own time, but it does close it.
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn dropped_connections_leave_the_server_open_to_new_ones() {
    let (ca, server) = server(Reply::Raw(b"again".to_vec()));
    let mut idle = connect(&ca, &server, "127.0.0.1");
    idle.conn.complete_io(&mut idle.sock).unwrap();
    server.drop_connections();
    assert!(idle.read_to_end(&mut Vec::new()).is_err());
    let mut client = connect(&ca, &server, "127.0.0.1");
    ask(&mut client);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), server.connections()), ("again", 2));
}

#[test]
fn certificates_are_bad_in_the_one_chosen_way() {
    let ca = TestCa::new(NOW).unwrap();
    let refusal = |names: &[&str], validity| {
        let server =
            ScriptedHttps::start(&ca.issue(names, validity).unwrap(), |_| Reply::status(200))
                .unwrap();
        let mut client = connect(&ca, &server, "localhost");
        let error = client
            .conn
            .complete_io(&mut client.sock)
            .err()
            .map(|error| error.to_string());
        assert_eq!((server.connections(), server.requests().len()), (1, 0));
        error
    };
    assert_eq!(refusal(&["localhost"], NOW), None);
    assert!(
        refusal(&["elsewhere.example"], NOW)
            .unwrap()
            .contains("not valid for name")
    );
    assert!(
        refusal(&["localhost"], Validity::EXPIRED)
            .unwrap()
            .contains("expired")
    );
    assert!(
        refusal(&["localhost"], Validity::FUTURE)
            .unwrap()
            .contains("not valid yet")
    );
}

#[test]
fn another_ca_of_the_same_name_is_not_trusted() {
    let (_, server) = server(Reply::status(200));
    let mut client = connect(&TestCa::new(NOW).unwrap(), &server, "localhost");
    assert!(client.conn.complete_io(&mut client.sock).is_err());
}

#[test]
fn debug_output_shows_no_credential() {
    let request = RequestHead {
        client: None,
        method: "GET".into(),
        target: "/".into(),
        headers: vec![("X-Vault-Token".into(), "hunter2".into())],
        body: b"hunter2".to_vec(),
    };
    let shown = format!("{request:?} {:?}", Reply::json(200, "hunter2"));
    assert!(
        shown.contains("X-Vault-Token") && !shown.contains("hunter2"),
        "{shown}"
    );
}
