//! A web server that reads its secrets through the resolver: its start, its readiness, a route for signals of a rotation, its end. It
//! runs before a real OpenBao and asks itself, so that you can see the results.
//!
//! `cargo xtask setup && cargo run -p service-examples --example axum`

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

mod store;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use secret_resolver::{ErrorKind, ExposeSecret, Resolver, secret_name};
use subtle::ConstantTimeEq;
use test_servers::OpenBao;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

const PASSWORD: &str = secret_name!("prod/db#password");
/// What the sender of a signal shows. It is a secret like any other, and rotates like any other.
const SENDER: &str = secret_name!("prod/signals#token");
const REQUIRED: [&str; 2] = [PASSWORD, SENDER];

type Answer = (StatusCode, String);

fn app(resolver: Resolver) -> Router {
    Router::new()
        .route("/work", get(work))
        .route("/ready", get(ready))
        .route("/rotated/{*name}", post(rotated))
        .with_state(resolver)
}

/// What the service is for. It takes the password for one use and drops it.
async fn work(State(resolver): State<Resolver>) -> Answer {
    match resolver.get(PASSWORD).await {
        Ok(password) => {
            let version = password.version().as_number().unwrap_or_default();
            drop(password);
            // As long as a query takes.
            sleep(Duration::from_millis(200)).await;
            (StatusCode::OK, format!("done with version {version}"))
        }
        Err(error) => unavailable(&error),
    }
}

/// It is ready when it can do its work, so the probe asks for what the work needs. What is cached costs no request. `Resolver::ready` asks
/// no store: where a service that is not ready gets no other requests, it would not learn that the store is back.
async fn ready(State(resolver): State<Resolver>) -> Answer {
    match resolver.require(&REQUIRED).await {
        Ok(_) => {
            let status = resolver.status();
            let text = format!("{} fetches, {} hits", status.fetches, status.hits);
            (StatusCode::OK, text)
        }
        Err(error) => unavailable(&error),
    }
}

/// The text of an error quotes no secret, but it names which one is missing and where. That is for the log and not for strangers.
fn unavailable(error: &dyn Error) -> Answer {
    println!("             (log) {error}");
    (StatusCode::SERVICE_UNAVAILABLE, "not now".to_owned())
}

/// For the job that changes secrets. Each call can cause a request at the store, so it is not for everybody.
async fn rotated(
    State(resolver): State<Resolver>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let token = match resolver.get(SENDER).await {
        Ok(token) => token,
        Err(error) => return unavailable(&error),
    };
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // In a time that does not show how much of it is right.
    if !shown.is_some_and(|shown| shown.ct_eq(token.expose_secret()).into()) {
        return (StatusCode::FORBIDDEN, "not for you".to_owned());
    }
    // From here on no request is answered with what was fetched before.
    match resolver.invalidator().invalidate(&name) {
        Ok(dropped) => (StatusCode::OK, format!("{dropped} value dropped")),
        Err(error) if error.kind() == ErrorKind::InvalidName => {
            (StatusCode::BAD_REQUEST, error.to_string())
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut store = OpenBao::start()?;
    store.put("prod/db", &[("password", "first")])?;
    let resolver = store::resolver_of(&store, Duration::from_secs(1))?;

    let Err(error) = resolver.require(&REQUIRED).await else {
        return Err("it started without a secret that it needs".into());
    };
    println!("refused      to start: {error}");
    store.put("prod/signals", &[("token", "sender-of-this-example")])?;
    // A service that starts together with its store waits for it; a secret that is missing is an error at once.
    resolver
        .require_within(&REQUIRED, Duration::from_secs(30))
        .await?;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    // In a service this is `tokio::signal::unix::signal(SignalKind::terminate())`.
    let (terminate, terminated) = oneshot::channel::<()>();
    let server = axum::serve(listener, app(resolver.clone())).with_graceful_shutdown(async move {
        // An error when the other end is dropped: that is the signal.
        terminated.await.unwrap_or_default();
    });
    let server = tokio::spawn(async move { server.await });
    println!("started      on {address}");

    visit(address, &mut store).await?;

    // A request is under way when the signal comes.
    let last = tokio::spawn(ask(address, "GET", "/work", ""));
    sleep(Duration::from_millis(100)).await;
    drop(terminate);
    server.await??;
    expect("terminated", last.await??, 200, "done with version 2")?;

    // After the server, because its last requests need their secrets.
    let report = resolver.shutdown_within(Duration::from_secs(2)).await;
    println!(
        "shut down    {} values dropped, {} token revoked",
        report.values_dropped, report.revoked
    );
    match report.is_complete() && report.revoked == 1 {
        true => Ok(()),
        false => Err(format!("the shutdown is not complete: {report:?}").into()),
    }
}

/// What a balancer, a client and a sender of signals see.
async fn visit(address: SocketAddr, store: &mut OpenBao) -> Result<(), Box<dyn Error>> {
    let sender = "sender-of-this-example";
    expect("ready", ask(address, "GET", "/ready", "").await?, 200, "")?;
    expect(
        "works",
        ask(address, "GET", "/work", "").await?,
        200,
        "version 1",
    )?;

    // Of a record, the path is enough: all of its fields change together.
    store.put("prod/db", &[("password", "second")])?;
    let signal = |sender| ask(address, "POST", "/rotated/prod/db", sender);
    expect("stranger", signal("somebody").await?, 403, "")?;
    expect("signal", signal(sender).await?, 200, "1 value dropped")?;
    expect(
        "works",
        ask(address, "GET", "/work", "").await?,
        200,
        "version 2",
    )?;
    let wrong = ask(address, "POST", "/rotated/prod//db", sender).await?;
    expect("no name", wrong, 400, "")?;

    // A store that is away costs nothing while the values are within their time. After a signal nothing old is answered.
    store.suspend()?;
    expect(
        "store hangs",
        ask(address, "GET", "/ready", "").await?,
        200,
        "",
    )?;
    expect("signal", signal(sender).await?, 200, "1 value dropped")?;
    expect(
        "not ready",
        ask(address, "GET", "/ready", "").await?,
        503,
        "",
    )?;
    expect("no work", ask(address, "GET", "/work", "").await?, 503, "")?;
    store.resume()?;
    for _ in 0..100 {
        let answer = ask(address, "GET", "/ready", "").await?;
        if answer.0 == 200 {
            return expect("ready again", answer, 200, "");
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err("it did not get ready again".into())
}

fn expect(
    title: &str,
    (status, text): (u16, String),
    expected: u16,
    part: &str,
) -> Result<(), Box<dyn Error>> {
    println!("{title:13}{status} {text}");
    match status == expected && text.contains(part) {
        true => Ok(()),
        false => Err(format!("{expected} was expected, with '{part}' in it").into()),
    }
}

/// As much of an HTTP client as this needs.
async fn ask(
    address: SocketAddr,
    method: &'static str,
    path: &'static str,
    bearer: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.unwrap_or_default(), body.to_owned()))
}
