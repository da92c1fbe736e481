//! What holds for all that a server can answer. `fuzz/` looks for an answer that breaks this; its
//! seeds are a test here.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::header::{HeaderValue, TRANSFER_ENCODING};
use secret_resolver::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::engine::Connection;
use crate::identity::Stamp;
use crate::request::{Method, Request};
use crate::response::Response;

/// Two bytes that say how the answer comes and where it is cut, and then the answer; whether it is taken.
pub(crate) fn hold(data: &[u8]) -> bool {
    let [pace, cut, answer @ ..] = data else {
        return false;
    };
    let whole = exchange(answer, usize::MAX);
    match &whole {
        Ok(response) => is_what_was_sent(response, answer),
        Err(error) => is_reported_without_a_quotation(error),
    }
    // In small pieces it is the same, except for the error of a head that is broken and does not end.
    let shown = |outcome: &Result<Response, Error>| match outcome {
        Ok(response) => Ok((response.status(), response.body().to_vec())),
        Err(error) => Err(error.status()),
    };
    let piecemeal = exchange(answer, 1 + usize::from(*pace));
    assert_eq!(shown(&piecemeal), shown(&whole));
    // A part is never taken for the whole, where the answer says how long it is.
    let part = answer.get(..answer.len() * usize::from(*cut) / 256);
    if let Ok(response) = exchange(part.unwrap_or_default(), usize::MAX)
        && is_of_known_length(&response)
    {
        assert_eq!(shown(&Ok(response)), shown(&whole));
    }
    whole.is_ok()
}

const LIMIT: usize = 256;

/// The result of an answer that is read this many bytes at a time, and then ends.
fn exchange(answer: &[u8], pace: usize) -> Result<Response, Error> {
    let stream = Stream {
        answer,
        pace,
        is_asked: false,
    };
    let mut request = Request::new(Method::Get, "/v1/secret/data/a")?;
    let request = request.for_host(&HeaderValue::from_static("vault.example"))?;
    at_once(async {
        let mut connection = Connection::open(stream, Stamp::default()).await?;
        connection.exchange(request, LIMIT).await
    })
}

/// It waits only for its own turns: it ends now, or it never will.
fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..1 << 20 {
        if let Poll::Ready(output) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return output;
        }
    }
    panic!("the exchange does not end");
}

fn is_what_was_sent(response: &Response, answer: &[u8]) {
    let status = response.status();
    assert!(
        matches!(status, 200..=299 | 304 | 400..=999),
        "status {status}"
    );
    let Some((sent, head_ends)) = head_of(answer) else {
        panic!("there is no head in what was taken for an answer");
    };
    assert_eq!(status, sent);
    assert!(response.body().len() <= LIMIT);
    if !is_chunked(response) {
        let body = answer.get(head_ends..).unwrap_or_default();
        assert!(body.starts_with(response.body()));
    }
    let empty = matches!(status, 204 | 304) || status >= 500;
    if let Some(length) = response.header("content-length") {
        assert!(!is_chunked(response), "two lengths");
        // The same number may stand there several times (RFC 9110, 8.6).
        let mut numbers = length.split(',').map(str::trim);
        let is_its = |number: &str| number.parse() == Ok(response.body().len());
        assert!(empty || numbers.all(is_its));
    }
    let delay = response.retry_after();
    assert!(delay.is_none_or(|delay| delay <= Duration::from_secs(3600)));
}

fn is_reported_without_a_quotation(error: &Error) {
    let at_all = match error.status() {
        None => matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unavailable),
        // The server changed the protocol, or the body is over the bound.
        Some(101 | 200..=299 | 400..=499) => error.kind() == ErrorKind::Malformed,
        Some(status) => {
            error.kind() == ErrorKind::Refused && matches!(status, 300..=303 | 305..=399)
        }
    };
    assert!(at_all && error.detail().is_none(), "{error}");
}

fn is_of_known_length(response: &Response) -> bool {
    is_chunked(response) || response.header("content-length").is_some()
}

fn is_chunked(response: &Response) -> bool {
    response.header(TRANSFER_ENCODING.as_str()).is_some()
}

/// The status of the first head that is not an interim one, and where that head ends.
fn head_of(answer: &[u8]) -> Option<(u16, usize)> {
    let mut lines = answer.split_inclusive(|&byte| byte == b'\n');
    let mut at = 0;
    let mut status = None;
    loop {
        let line = lines.next()?;
        at += line.len();
        let text = line.trim_ascii_end();
        match status {
            None if text.is_empty() => {}
            None => {
                let digits = text.strip_prefix(b"HTTP/1.")?.get(2..5)?;
                status = Some(std::str::from_utf8(digits).ok()?.parse::<u16>().ok()?);
            }
            Some(100 | 102..=199) if text.is_empty() => status = None,
            Some(status) if text.is_empty() => return Some((status, at)),
            Some(_) => {}
        }
    }
}

/// A server's side that takes whatever is sent, and answers once it is asked.
struct Stream<'a> {
    answer: &'a [u8],
    pace: usize,
    is_asked: bool,
}

impl AsyncRead for Stream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_asked {
            return Poll::Pending;
        }
        let length = self.pace.min(buf.remaining()).min(self.answer.len());
        let (piece, rest) = self.answer.split_at(length);
        buf.put_slice(piece);
        self.answer = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_asked = true;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_answers() {
    test_servers::try_seeds("head", hold);
}
