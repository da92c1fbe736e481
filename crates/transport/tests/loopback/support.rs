//! A CA, a server, a client that believes the one and may speak to the other; and the one way in
//! which all tests here look at an error.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use secret_resolver::backend::SystemClock;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind};
use secret_resolver_transport::{Client, ClientBuilder, Method, Origin, Request, Response, Trust};
use test_servers::{Reply, RequestHead, ScriptedHttps, TestCa, Validity};

/// Stands in every path, header and body of these tests, and must stand in nothing that is shown.
pub(crate) const CANARY: &str = "canary-7f3a";

/// How long a test waits for what must happen, before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) ca: TestCa,
    pub(crate) server: ScriptedHttps,
    pub(crate) origin: Origin,
}

impl World {
    pub(crate) fn new(script: impl Fn(&RequestHead) -> Reply + Send + Sync + 'static) -> Self {
        Self::with_certificate(&["127.0.0.1"], Validity::CURRENT, script)
    }

    pub(crate) fn with_certificate(
        names: &[&str],
        validity: Validity,
        script: impl Fn(&RequestHead) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let certificate = ca.issue(names, validity).unwrap();
        let server = ScriptedHttps::start(&certificate, script).unwrap();
        let origin = Origin::parse(&server.origin()).unwrap();
        Self { ca, server, origin }
    }

    pub(crate) fn answering(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        builder(&self.ca, real_clock()).allow(self.origin.clone())
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// A client on a clock that stands still.
    pub(crate) fn steered(&self) -> (Client, ManualClock) {
        let clock = ManualClock::strict();
        let builder = builder(&self.ca, Arc::new(clock.clone())).allow(self.origin.clone());
        (builder.build().unwrap(), clock)
    }

    pub(crate) async fn get(&self, client: &Client) -> Result<Response, Error> {
        client.send(&self.origin, get()).await
    }

    pub(crate) async fn fails(&self, client: &Client, kind: ErrorKind) -> Error {
        fails(self.get(client).await, kind)
    }
}

/// A clock whose time passes. Each has a thread, which ends with it.
pub(crate) fn real_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::shared().unwrap())
}

/// A client with much time, for tests that are not about time.
pub(crate) fn builder(ca: &TestCa, clock: Arc<dyn Clock>) -> ClientBuilder {
    Client::builder(Trust::from_pem(ca.pem().as_bytes()).unwrap(), clock)
        .with_connect_timeout(PATIENCE)
        .with_response_timeout(PATIENCE)
}

pub(crate) fn get() -> Request {
    request(Method::Get)
}

pub(crate) fn request(method: Method) -> Request {
    Request::new(method, &format!("/v1/{CANARY}?x={CANARY}"))
        .and_then(|request| request.with_secret_header("X-Vault-Token", CANARY.as_bytes()))
        .unwrap()
}

/// The error of `result`, which must be of this kind and give nothing away.
pub(crate) fn fails(result: Result<Response, Error>, kind: ErrorKind) -> Error {
    let error = result.unwrap_err();
    let shown = format!(
        "{error} {error:?} {:?}",
        std::error::Error::source(&error).map(ToString::to_string)
    );
    assert_eq!(error.kind(), kind, "{shown}");
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(
        shown.contains("https://"),
        "an error of the transport names its origin: {shown}"
    );
    error
}

/// Hands bytes between its own port and a server's, and reports when a client has left.
pub(crate) struct Relay {
    pub(crate) port: u16,
    pub(crate) left: Receiver<()>,
}

/// What a relay does with a server's bytes once it has handed on this many.
#[derive(Clone, Copy)]
pub(crate) enum After {
    /// One by one, with pauses.
    Drip,
    /// Closes the connection.
    Cut,
}

impl Relay {
    pub(crate) fn start(bind: &str, to: u16) -> Self {
        Self::start_limited(After::Cut, usize::MAX, bind, to)
    }

    pub(crate) fn start_limited(after: After, bytes: usize, bind: &str, to: u16) -> Self {
        let listener = TcpListener::bind((bind, 0)).expect("the loopback address can be bound");
        let port = listener.local_addr().unwrap().port();
        let (leaving, left) = channel();
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (mut back, mut there) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || copy(&mut back, &mut there, bytes, after));
                let leaving = leaving.clone();
                std::thread::spawn(move || {
                    copy(&mut client, &mut server, usize::MAX, After::Cut);
                    let _ = leaving.send(());
                });
            }
        });
        Self { port, left }
    }
}

fn copy(from: &mut TcpStream, to: &mut TcpStream, mut quick: usize, after: After) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let sent = match (quick, after) {
            (0, After::Cut) => break,
            (0, After::Drip) => bytes[..count].iter().try_for_each(|byte| {
                std::thread::sleep(Duration::from_millis(1));
                to.write_all(&[*byte])
            }),
            _ => to.write_all(&bytes[..count]),
        };
        if sent.is_err() {
            break;
        }
        quick = quick.saturating_sub(count);
    }
    for side in [to, from] {
        let _ = side.shutdown(Shutdown::Both);
    }
}
