//! Connections: HTTP/2 by the `h2` crate, and what gRPC makes of it by hand.

use std::future::poll_fn;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot};

use super::answer::Step;
use super::messages::{jwt_request, unframed};
use super::{Answer, Manner, ORDER, Shared, WorkloadCall, WorkloadMethod};

/// Serves until it is stopped; then all tasks end with their runtime, and their connections with them.
pub(super) async fn until(
    stopped: oneshot::Receiver<()>,
    listener: UnixListener,
    shared: Arc<Shared>,
) {
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixListener::from_std(listener));
    let Ok(listener) = listener else { return };
    let accepts = async {
        while let Ok((socket, _)) = listener.accept().await {
            shared.connections.fetch_add(1, ORDER);
            let open = Open::new(Arc::clone(&shared));
            tokio::spawn(async move { connection(socket, open).await });
        }
    };
    tokio::select! {
        _ = stopped => {}
        () = accepts => {}
    }
}

/// Counts a connection while it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open.fetch_add(1, ORDER);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, ORDER);
    }
}

async fn connection(mut socket: UnixStream, open: Open) {
    let shared = &open.0;
    let manner = shared.lock().manner.clone();
    match manner {
        Manner::Grpc => {}
        Manner::Says(bytes) => {
            let _ = socket.write_all(&bytes).await;
            return;
        }
        Manner::Silent => return std::future::pending().await,
        Manner::HangsUp => return,
    }
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    let hang_up = Arc::new(Notify::new());
    loop {
        tokio::select! {
            () = hang_up.notified() => return,
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                tokio::spawn(call(request, respond, Arc::clone(shared), Arc::clone(&hang_up)));
            }
        }
    }
}

/// One call. What cannot be sent was not wanted any more, so errors end it and nothing else.
async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
    hang_up: Arc<Notify>,
) {
    let (head, body) = request.into_parts();
    let method = match head.uri.path() {
        "/SpiffeWorkloadAPI/FetchX509SVID" => WorkloadMethod::X509Svid,
        "/SpiffeWorkloadAPI/FetchJWTSVID" => WorkloadMethod::JwtSvid,
        "/SpiffeWorkloadAPI/FetchX509Bundles" => WorkloadMethod::X509Bundles,
        "/SpiffeWorkloadAPI/FetchJWTBundles" => WorkloadMethod::JwtBundles,
        _ => return status_alone(&mut respond, 12, "unknown method"),
    };
    let Some(call) = read(method, body).await else {
        return status_alone(&mut respond, 13, "the request does not parse");
    };
    let (steps, pushed) = {
        let mut state = shared.lock();
        state.calls.push(call.clone());
        shared.called.notify_all();
        if !has_metadata(&head.headers) {
            return status_alone(&mut respond, 3, "security header missing from request");
        }
        let answers = state.next.iter_mut().find(|(of, _)| *of == method);
        let next = answers.and_then(|(_, answers)| answers.pop_front());
        let script = state.scripts.iter().find(|(of, _)| *of == method);
        let script = script.map(|(_, script)| Arc::clone(script));
        // Before the answer is known, so that nothing that is pushed is lost.
        let (sender, pushed) = mpsc::unbounded_channel();
        if method == WorkloadMethod::X509Svid {
            state.streams.push(sender);
        }
        drop(state);
        let Answer(steps) = match (next, script) {
            (Some(answer), _) => answer,
            (None, Some(script)) => script(&call),
            (None, None) => Answer::status(7, "no identity issued"),
        };
        (steps, pushed)
    };
    let _ = answer(steps, pushed, respond, &shared, &hang_up).await;
}

/// Exactly as the standard says.
fn has_metadata(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all("workload.spiffe.io").iter();
    values.next().is_some_and(|value| value == "true") && values.next().is_none()
}

async fn read(method: WorkloadMethod, mut body: RecvStream) -> Option<WorkloadCall> {
    /// More than any request of a test.
    const MOST: usize = 1 << 20;
    let mut frame = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.ok()?;
        body.flow_control().release_capacity(part.len()).ok()?;
        frame.extend_from_slice(&part);
        if frame.len() > MOST {
            return None;
        }
    }
    let message = unframed(&frame)?;
    let (audiences, id) = match method {
        WorkloadMethod::JwtSvid => jwt_request(message)?,
        _ => Default::default(),
    };
    Some(WorkloadCall {
        method,
        audiences,
        id,
    })
}

async fn answer(
    steps: Vec<Step>,
    mut pushed: mpsc::UnboundedReceiver<Step>,
    mut respond: SendResponse<Bytes>,
    shared: &Shared,
    hang_up: &Notify,
) -> Result<(), h2::Error> {
    let mut steps = steps.into_iter();
    let mut body: Option<SendStream<Bytes>> = None;
    loop {
        let step = match steps.next() {
            Some(step) => step,
            None => {
                // Until there is more to say, or the client has gone.
                let gone = async {
                    match &mut body {
                        Some(body) => poll_fn(|context| body.poll_reset(context)).await,
                        None => poll_fn(|context| respond.poll_reset(context)).await,
                    }
                };
                tokio::select! {
                    Some(step) = pushed.recv() => step,
                    _ = gone => return Ok(()),
                }
            }
        };
        match step {
            Step::HangUp => {
                hang_up.notify_one();
                return Ok(());
            }
            Step::Http(status) => {
                let mut head = Response::new(());
                *head.status_mut() = status.try_into().unwrap_or_default();
                respond.send_response(head, true)?;
                return Ok(());
            }
            Step::Status(code, text) if body.is_none() => {
                status_alone(&mut respond, code, &text);
                return Ok(());
            }
            Step::Reset if body.is_none() => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            _ => {}
        }
        let body = match &mut body {
            Some(body) => body,
            none => none.insert(respond.send_response(head(), false)?),
        };
        match step {
            Step::Bytes(bytes) => send(body, bytes, shared).await?,
            Step::Endless(bytes) => loop {
                send(body, bytes.clone(), shared).await?;
            },
            Step::Status(code, text) => return body.send_trailers(status(code, &text)),
            Step::EndWithoutStatus => return body.send_data(Bytes::new(), true),
            Step::Reset => {
                body.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Step::HangUp | Step::Http(_) => return Ok(()),
        }
    }
}

/// As fast as the client takes it.
async fn send(
    body: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    shared: &Shared,
) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        body.reserve_capacity(bytes.len());
        let granted = poll_fn(|context| body.poll_capacity(context)).await;
        let granted = granted.ok_or(h2::Error::from(Reason::CANCEL))??;
        let part = bytes.split_to(granted.min(bytes.len()));
        let length = part.len() as u64;
        body.send_data(part, false)?;
        shared.sent.fetch_add(length, ORDER);
    }
    // Other streams, and the connection itself, are tasks of the same thread.
    tokio::task::yield_now().await;
    Ok(())
}

fn head() -> Response<()> {
    let mut head = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert("content-type", grpc);
    head
}

fn status(code: u16, text: &str) -> HeaderMap {
    let mut status = HeaderMap::new();
    status.insert("grpc-status", code.into());
    if let Ok(text) = HeaderValue::from_str(text) {
        status.insert("grpc-message", text);
    }
    status
}

fn status_alone(respond: &mut SendResponse<Bytes>, code: u16, text: &str) {
    let mut head = head();
    head.headers_mut().extend(status(code, text));
    let _ = respond.send_response(head, true);
}
