//! What is asked: method, path, headers and a body, each checked when it is given.
//!
//! It knows nothing of where the request goes; the [`Client`](crate::Client) adds the host. It
//! encodes nothing: a path arrives percent-encoded by the backend, whose rules differ.

use std::fmt;

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use secret_resolver::{Error, ErrorKind, SecretBuf};

use crate::engine::Outgoing;
use crate::error::misconfigured;

/// The longest target: what common servers read of a request line.
const LONGEST_TARGET: usize = 8 << 10;

/// How we appear in the server's log (RFC 9110, 10.1.5).
const OURSELVES: &str = concat!("secret-resolver/", env!("CARGO_PKG_VERSION"));

/// Only the transport sets the headers that decide about the connection and the body's length.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// What to do with the target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Method {
    /// Read it. Asked once more on a new connection when a pooled one turns out to be dead.
    Get,
    /// Do it. Sent once, on a new connection: a login may spend a one-time credential.
    Post,
    /// Write it. Sent once, on a new connection.
    Put,
    /// As [`Method::Get`], without the body.
    Head,
}

/// One request. `Debug` shows the method alone: a path, a header or a body may be confidential.
///
/// ```
/// use secret_resolver::SecretBuf;
/// use secret_resolver_transport::{Method, Request};
///
/// let login = Request::new(Method::Post, "/v1/auth/jwt/login")?
///     .with_header("X-Vault-Namespace", "team")?
///     .with_secret_header("X-Vault-Token", b"hunter2")?
///     .with_body("application/json", SecretBuf::from_slice(br#"{"role":"app"}"#)?);
/// assert_eq!(format!("{login:?}"), "Request { method: Post, .. }");
/// assert!(Request::new(Method::Get, "/v1/../sys").is_err());
/// # Ok::<(), secret_resolver::Error>(())
/// ```
pub struct Request {
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    body: Option<(&'static str, SecretBuf)>,
    certificate: Option<u64>,
}

impl Request {
    /// A request for `target`: an absolute path, already percent-encoded, with an optional query.
    ///
    /// # Errors
    /// [`Misconfigured`](secret_resolver::ErrorKind::Misconfigured) when the target does not begin
    /// with one slash, is over 8 KiB, has a character that RFC 3986 allows in no path or query, a
    /// percent sign without two hexadecimal digits, or a segment that is `.` or `..`, encoded or
    /// not (servers clean a path up, and would answer another one).
    pub fn new(method: Method, target: &str) -> Result<Self, Error> {
        check_target(target)?;
        let target = PathAndQuery::try_from(target)
            .map_err(|_| misconfigured("a request's path cannot be sent as it is"))?;
        Ok(Self {
            method,
            target,
            headers: HeaderMap::new(),
            body: None,
            certificate: None,
        })
    }

    /// Adds a header, or replaces the one of this name.
    ///
    /// # Errors
    /// [`Misconfigured`](secret_resolver::ErrorKind::Misconfigured) when the name is not that of a header or
    /// is one of those that the transport writes itself (`Host`, `Content-Length`, `Connection` and
    /// their like), and when the value has anything but visible ASCII characters and spaces.
    pub fn with_header(self, name: &'static str, value: &str) -> Result<Self, Error> {
        check_value(value.as_bytes())?;
        let value = HeaderValue::from_str(value).map_err(|_| unwritable())?;
        self.insert(name, value)
    }

    /// As [`Request::with_header`], for a credential: the value is marked as sensitive, and the
    /// copy that is kept here is wiped when it goes. The caller wipes its own.
    ///
    /// # Errors
    /// As [`Request::with_header`];
    /// [`Overloaded`](secret_resolver::ErrorKind::Overloaded) when there is no memory for the copy.
    ///
    /// # Security
    /// hyper copies the head of a request into a buffer that it does not wipe; see the crate's
    /// front page.
    pub fn with_secret_header(self, name: &'static str, value: &[u8]) -> Result<Self, Error> {
        check_value(value)?;
        let owned = Bytes::from_owner(Wiped(SecretBuf::from_slice(value)?));
        let mut value = HeaderValue::from_maybe_shared(owned).map_err(|_| unwritable())?;
        value.set_sensitive(true);
        self.insert(name, value)
    }

    /// Sets the body, which is wiped once it was sent or given up. A content type that is not a
    /// header value is an error of `send`.
    #[must_use]
    pub fn with_body(mut self, content_type: &'static str, body: SecretBuf) -> Self {
        self.body = Some((content_type, body));
        self
    }

    /// Lets it be sent with the client certificate of this number alone
    /// ([`Client::certificate`](crate::Client::certificate)): for what belongs to that certificate, such as the renewal
    /// of a token that it vouches for. With another one nothing is sent, and the answer is
    /// [`Refused`](secret_resolver::ErrorKind::Refused).
    #[must_use]
    pub fn with_certificate(mut self, number: u64) -> Self {
        self.certificate = Some(number);
        self
    }

    /// Whether it may be sent where the certificate of this number is shown.
    pub(crate) fn check_certificate(&self, shown: u64) -> Result<(), Error> {
        if self.certificate.is_none_or(|wanted| wanted == shown) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Refused,
            "the request belongs to another client certificate than the one in use; nothing was sent",
        )
        .held_back())
    }

    /// Whether asking twice has the same effect as asking once.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self.method, Method::Get | Method::Head) && self.body.is_none()
    }

    /// The request as the engine sends it. The body moves; header values are shared, so that a
    /// repetition makes no copy of a token.
    pub(crate) fn for_host(
        &mut self,
        host: &HeaderValue,
    ) -> Result<hyper::Request<Outgoing>, Error> {
        let mut headers = self.headers.clone();
        headers.insert(HOST, host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(OURSELVES));
        let body = match self.body.take() {
            None => Outgoing::empty(),
            Some((content_type, body)) => {
                let value = HeaderValue::from_str(content_type).map_err(|_| unwritable())?;
                headers.insert(CONTENT_TYPE, value);
                Outgoing::new(body)
            }
        };
        let mut request = hyper::Request::new(body);
        *request.method_mut() = match self.method {
            Method::Get => hyper::Method::GET,
            Method::Post => hyper::Method::POST,
            Method::Put => hyper::Method::PUT,
            Method::Head => hyper::Method::HEAD,
        };
        *request.uri_mut() = self.target.clone().into();
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn insert(mut self, name: &'static str, value: HeaderValue) -> Result<Self, Error> {
        let name = HeaderName::try_from(name).map_err(|_| unwritable())?;
        if RESERVED.contains(&name.as_str()) {
            return Err(misconfigured(
                "this header is written by the transport alone",
            ));
        }
        self.headers
            .try_insert(name, value)
            .map_err(|_| misconfigured("a request has too many headers"))?;
        Ok(self)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// What a shared header value is made of: freed by its last holder, and wiped then.
struct Wiped(SecretBuf);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

fn check_target(target: &str) -> Result<(), Error> {
    if !target.starts_with('/') || target.starts_with("//") {
        return Err(misconfigured("a request's path must begin with one slash"));
    }
    if target.len() > LONGEST_TARGET {
        return Err(misconfigured("a request's path is over 8 KiB"));
    }
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?".contains(&byte);
    let encoded = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !target.bytes().all(allowed) || !target.split('%').skip(1).all(encoded) {
        return Err(misconfigured("a request's path is not percent-encoded"));
    }
    let path = target.split('?').next().unwrap_or(target);
    let climbs = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    if path.split('/').any(climbs) {
        return Err(misconfigured(
            "a request's path has a segment that is . or ..",
        ));
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), Error> {
    if value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    Err(misconfigured(
        "a header's value is not visible ASCII; does a token end in a line break?",
    ))
}

fn unwritable() -> Error {
    misconfigured("a header cannot be written as it is")
}

#[cfg(test)]
mod tests;
