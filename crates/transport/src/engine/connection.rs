//! One connection to a server and the exchanges on it, one after another.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use hyper::StatusCode;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING,
};
use hyper_util::rt::TokioIo;
use secret_resolver::{Error, ErrorKind, SecretBuf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::engine::Outgoing;
use crate::engine::body::collect;
use crate::error::{malformed, of_connect, of_exchange};
use crate::identity::Stamp;
use crate::response::Response;

/// The largest head of an answer, and the most that hyper reads ahead.
const LARGEST_HEAD: usize = 32 << 10;

/// The most headers in an answer, and the most trailers.
const MOST_HEADERS: usize = 100;

/// A connection. Dropping it closes it.
pub(crate) struct Connection<S = TlsStream<TcpStream>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    sender: SendRequest<Outgoing>,
    driver: Driver<S>,
    /// What it was made with.
    pub(crate) stamp: Stamp,
    is_new: bool,
}

/// The half that moves bytes. Boxed, because it has some kilobytes and is handed on by value, from the pool to each
/// request's future and back.
struct Driver<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Taken for the last words.
    connection: Option<Box<http1::Connection<TokioIo<S>, Outgoing>>>,
    is_over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) async fn open(stream: S, stamp: Stamp) -> Result<Self, Error> {
        let (sender, driver) = http1::Builder::new()
            .max_headers(MOST_HEADERS)
            .max_header_size(LARGEST_HEAD)
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| of_exchange(&error))?;
        Ok(Self {
            sender,
            driver: Driver {
                connection: Some(Box::new(driver)),
                is_over: false,
            },
            stamp,
            is_new: true,
        })
    }

    /// Sends `request` and reads the whole answer.
    ///
    /// # Cancel safety
    /// Not safe to use the connection again after a dropped exchange: drop it, too. A connection
    /// whose exchange failed cannot be used again either.
    pub(crate) async fn exchange(
        &mut self,
        request: hyper::Request<Outgoing>,
        body_limit: usize,
    ) -> Result<Response, Error> {
        let Self { sender, driver, .. } = self;
        let accepted = request.headers().get(ACCEPT_ENCODING).cloned();
        let answer = driver
            .run(async {
                let response = sender
                    .send_request(request)
                    .await
                    .map_err(|error| of_exchange(&error))?;
                let (head, body) = response.into_parts();
                let status = head.status.as_u16();
                // 304 leads nowhere: it says that nothing has changed.
                if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
                    return Err(Error::new(
                        ErrorKind::Refused,
                        "the server answered with a redirect, which is never followed",
                    )
                    .with_status(status));
                }
                // Two lengths are a way to smuggle an answer (RFC 9112, 6.3). The connection is not used again.
                if head.headers.contains_key(TRANSFER_ENCODING)
                    && head.headers.contains_key(CONTENT_LENGTH)
                {
                    return Err(malformed("the answer gives two lengths of its body"));
                }
                // No other was asked for (RFC 9112, 7.4), and a body in an unknown one would be taken as it is.
                let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
                let is_other =
                    |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"chunked");
                if codings.next().is_some_and(is_other) || codings.next().is_some() {
                    return Err(malformed(
                        "the answer's body is in a coding that was not asked for",
                    ));
                }
                // The same for a coding of the content. Of an error only the status counts.
                let mut codings = head.headers.get_all(CONTENT_ENCODING).iter();
                let unasked = |coding: &HeaderValue| {
                    accepted.as_ref() != Some(coding)
                        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
                };
                let is_unasked = codings.next().is_some_and(unasked) || codings.next().is_some();
                if head.status.is_success() && is_unasked {
                    return Err(malformed(
                        "the answer's body is in a coding that was not asked for",
                    ));
                }
                if head.status.is_informational() {
                    return Err(
                        malformed("the server changed the protocol unasked").with_status(status)
                    );
                }
                let body = match collect(body, body_limit).await {
                    // The status says that the server failed; a page that is too large is not read.
                    Err(error) if status >= 500 && error.kind() == ErrorKind::Malformed => {
                        SecretBuf::with_capacity(0)?
                    }
                    // So that a caller that asked for much may ask for less.
                    body => body.map_err(|error| match error.kind() {
                        ErrorKind::Malformed => error.with_status(status),
                        _ => error,
                    })?,
                };
                Ok(Response::new(status, head.headers, body))
            })
            .await;
        // With TLS 1.3 a server that refuses the client certificate says so after the handshake, and hangs up. The
        // request may fail by that before what was said is read.
        let is_lost = |error: &Error| error.kind() == ErrorKind::Unavailable;
        if std::mem::take(&mut self.is_new)
            && answer.as_ref().is_err_and(is_lost)
            && let Some(refusal) = self.driver.last_words().await
        {
            return Err(refusal);
        }
        answer
    }

    /// Whether the next request may go this way: the last answer is read to its end, and the
    /// server has closed nothing that we know of.
    pub(crate) async fn is_usable(&mut self) -> bool {
        poll_fn(|cx| {
            self.driver.step(cx);
            Poll::Ready(self.sender.is_ready())
        })
        .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Awaits `future` and moves bytes meanwhile.
    async fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.step(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Moves what can be moved. The waiter on a connection learns how it ended, so its own
    /// result says nothing new.
    fn step(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = self.connection.as_mut().filter(|_| !self.is_over) {
            self.is_over = Pin::new(connection).poll(cx).is_ready();
        }
    }

    /// What the server has said of this client's certificate before the connection broke, if it has. What arrived
    /// before it broke can be read, and then its end: so this does not wait for anything that may never come.
    async fn last_words(&mut self) -> Option<Error> {
        let mut stream = self.connection.take()?.into_parts().io.into_inner();
        let mut room = [0; 1];
        let mut room = ReadBuf::new(&mut room);
        let ended = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut room)).await;
        let refusal = of_connect(&ended.err()?);
        (refusal.kind() == ErrorKind::Unauthenticated).then_some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use hyper::header::HeaderValue;
    use rustls::AlertDescription;

    use super::*;
    use crate::request::{Method, Request};

    /// A peer that has refused the client's certificate and hung up: writing fails, and what it has said is still
    /// to be read.
    struct HungUp {
        said: Option<AlertDescription>,
        is_broken: bool,
    }

    impl AsyncRead for HungUp {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match (self.is_broken, self.said) {
                (false, _) => Poll::Pending,
                (true, None) => Poll::Ready(Ok(())),
                (true, Some(alert)) => Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    rustls::Error::AlertReceived(alert),
                ))),
            }
        }
    }

    impl AsyncWrite for HungUp {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.is_broken = true;
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_a_server_has_said_before_it_hung_up_is_told() {
        for (said, kind) in [
            (
                Some(AlertDescription::BadCertificate),
                ErrorKind::Unauthenticated,
            ),
            (
                Some(AlertDescription::CertificateRequired),
                ErrorKind::Unauthenticated,
            ),
            // It says nothing of the certificate.
            (
                Some(AlertDescription::InternalError),
                ErrorKind::Unavailable,
            ),
            (None, ErrorKind::Unavailable),
        ] {
            let peer = HungUp {
                said,
                is_broken: false,
            };
            let mut connection = Connection::open(peer, Stamp::default()).await.unwrap();
            let mut request = Request::new(Method::Get, "/").unwrap();
            let request = request.for_host(&HeaderValue::from_static("host")).unwrap();
            let error = connection.exchange(request, 100).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{said:?}");
        }
    }
}
