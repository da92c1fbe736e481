//! HTTP/1.1 as the scripted server speaks it: one request read, one reply written, exactly as scripted. It decides nothing: the test
//! chooses the reply.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

/// How much of a body [`Reply::Endless`] sends at most, if nobody stops it.
pub const ENDLESS_LIMIT: usize = 256 << 20;

const HEAD_LIMIT: u64 = 64 << 10;
const BODY_LIMIT: usize = 16 << 20;

/// A request as it arrived, its body included. `Debug` shows no header's value and nothing of the body: both can be credentials.
#[derive(Clone)]
pub struct RequestHead {
    /// `GET`, `LIST`, …
    pub method: String,
    /// The path and query, as sent.
    pub target: String,
    /// Names and values, as sent and in their order.
    pub headers: Vec<(String, String)>,
    /// The body, as long as `Content-Length` said.
    pub body: Vec<u8>,
    /// The certificate that the client has shown, in DER, where the server asks for one.
    pub client: Option<Vec<u8>>,
}

impl RequestHead {
    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

/// How to answer one request.
#[derive(Clone)]
#[non_exhaustive]
pub enum Reply {
    /// An honest answer. `Content-Length` is added; the connection stays open.
    Full {
        /// The status code.
        status: u16,
        /// Headers beside `Content-Length`.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// These bytes and nothing else, then a clean close.
    Raw(Vec<u8>),
    /// A 200 whose `Content-Length` is `declared`, this body, then a clean close.
    Truncated {
        /// The length that the head promises.
        declared: usize,
        /// What is sent of it.
        body: Vec<u8>,
    },
    /// A 200 with a chunked body that does not end before the peer leaves or [`ENDLESS_LIMIT`] is reached.
    Endless,
    /// A 200 whose head comes at once and whose body comes one byte at a time, for as long as the peer stays.
    Drip {
        /// The pause before each byte.
        byte_every: Duration,
    },
    /// As [`Reply::Drip`], but the head comes one byte at a time too, and never ends.
    DripHead {
        /// The pause before each byte.
        byte_every: Duration,
    },
    /// No answer, on a connection that stays open until the peer leaves.
    Silent,
    /// No answer, and the connection is closed without even the end of TLS.
    CloseAtOnce,
}

impl Reply {
    /// What a Vault answers that takes every login, and has every secret.
    #[must_use]
    pub fn of_a_willing_vault(request: &RequestHead) -> Self {
        Self::json(
            200,
            match request.target.ends_with("/login") {
                true => {
                    r#"{"auth":{"client_token":"t","lease_duration":3600,"renewable":false,"num_uses":0,"token_type":"service"}}"#
                }
                false => r#"{"data":{"data":{"value":"v"},"metadata":{"version":1}}}"#,
            },
        )
    }

    /// A [`Reply::Full`] of JSON.
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        Self::status(status)
            .with_header("Content-Type", "application/json")
            .with_body(body)
    }

    /// A [`Reply::Full`] with neither headers nor a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Full {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header to a [`Reply::Full`]; other replies stay as they are.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Full { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Sets the body of a [`Reply::Full`] or [`Reply::Truncated`]; other replies stay as they are.
    #[must_use]
    pub fn with_body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        if let Self::Full { body, .. } | Self::Truncated { body, .. } = &mut self {
            *body = bytes.as_ref().to_vec();
        }
        self
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full { .. } => "Full",
            Self::Raw(_) => "Raw",
            Self::Truncated { .. } => "Truncated",
            Self::Endless => "Endless",
            Self::Drip { .. } => "Drip",
            Self::DripHead { .. } => "DripHead",
            Self::Silent => "Silent",
            Self::CloseAtOnce => "CloseAtOnce",
        })
    }
}

/// What becomes of the connection after a reply.
pub(super) enum Then {
    Continue,
    Close,
    Abort,
}

/// Reads one request; `None` when the peer has left instead of asking.
pub(super) fn read_request(peer: &mut impl BufRead) -> io::Result<Option<RequestHead>> {
    let mut head = peer.by_ref().take(HEAD_LIMIT);
    let request_line = read_line(&mut head)?;
    let mut words = request_line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut request = RequestHead {
        method: method.into(),
        target: target.into(),
        headers: Vec::new(),
        body: Vec::new(),
        client: None,
    };
    loop {
        let line = read_line(&mut head)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| malformed("a header without a colon"))?;
        request
            .headers
            .push((name.to_owned(), value.trim().to_owned()));
    }
    if request.header("transfer-encoding").is_some() {
        return Err(malformed(
            "a chunked request, which no client of ours sends",
        ));
    }
    let length = request
        .header("content-length")
        .map_or(Ok(0), str::parse)
        .map_err(|_| malformed("a length that is not a number"))?;
    if length > BODY_LIMIT {
        return Err(malformed("a body over the limit"));
    }
    request.body.resize(length, 0);
    peer.read_exact(&mut request.body)?;
    Ok(Some(request))
}

/// Writes `reply`. `pause` sleeps, and says whether to go on.
pub(super) fn write_reply<P: BufRead + WriteBehind>(
    reply: Reply,
    peer: &mut P,
    pause: &dyn Fn(Duration) -> bool,
) -> io::Result<Then> {
    let out = peer.writer();
    match reply {
        Reply::Full {
            status,
            headers,
            body,
        } => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            // These have no body by definition, and a length would contradict it.
            if status >= 200 && status != 204 && status != 304 {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            send(out, &[head.as_bytes(), b"\r\n", &body].concat())?;
            Ok(Then::Continue)
        }
        Reply::Raw(bytes) => send(out, &bytes).map(|()| Then::Close),
        Reply::Truncated { declared, body } => {
            let head = format!("HTTP/1.1 200 Scripted\r\nContent-Length: {declared}\r\n\r\n");
            send(out, &[head.as_bytes(), &body].concat())?;
            Ok(Then::Close)
        }
        Reply::Endless => {
            send(
                out,
                b"HTTP/1.1 200 Scripted\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
            let chunk = [b"4000\r\n".as_slice(), &[b'a'; 0x4000], b"\r\n"].concat();
            for _ in 0..ENDLESS_LIMIT / 0x4000 {
                send(out, &chunk)?;
            }
            Ok(Then::Abort)
        }
        Reply::Drip { byte_every } => {
            send(
                out,
                format!("HTTP/1.1 200 Scripted\r\nContent-Length: {ENDLESS_LIMIT}\r\n\r\n")
                    .as_bytes(),
            )?;
            drip(
                out,
                std::iter::repeat_n(b'a', ENDLESS_LIMIT),
                byte_every,
                pause,
            )
        }
        Reply::DripHead { byte_every } => {
            let endless = std::iter::repeat_n(b'a', ENDLESS_LIMIT);
            drip(
                out,
                b"HTTP/1.1 200 Scripted\r\nX-Endless: "
                    .iter()
                    .copied()
                    .chain(endless),
                byte_every,
                pause,
            )
        }
        Reply::Silent => {
            // What the peer says meanwhile is of no interest; its leaving ends the copy.
            io::copy(peer, &mut io::sink())?;
            Ok(Then::Abort)
        }
        Reply::CloseAtOnce => Ok(Then::Abort),
    }
}

/// A buffered reader whose stream can be written to, past the buffer.
pub(super) trait WriteBehind {
    fn writer(&mut self) -> &mut dyn Write;
}

impl<S: Read + Write> WriteBehind for io::BufReader<S> {
    fn writer(&mut self) -> &mut dyn Write {
        self.get_mut()
    }
}

fn drip(
    out: &mut dyn Write,
    bytes: impl Iterator<Item = u8>,
    every: Duration,
    pause: &dyn Fn(Duration) -> bool,
) -> io::Result<Then> {
    for byte in bytes {
        if !pause(every) {
            break;
        }
        send(out, &[byte])?;
    }
    Ok(Then::Abort)
}

fn send(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
