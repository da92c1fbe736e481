//! HTTP/1.1, as a server reads and writes it: one request after another on a connection.

use std::io::{self, BufRead, Read, Write};

use test_servers::RequestHead;

use crate::Answer;

/// More than any honest request's head.
const HEAD_LIMIT: u64 = 1 << 18;
/// More than any value that a test stores.
const BODY_LIMIT: usize = 1 << 24;

/// Reads one request; `None` when the peer has left instead of asking. A peer that asks first whether its body is welcome is answered.
pub(super) fn read_request<S: Read + Write>(
    peer: &mut io::BufReader<S>,
) -> io::Result<Option<RequestHead>> {
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
        let header = (name.to_owned(), value.trim().to_owned());
        request.headers.push(header);
    }
    if request.header("expect").is_some() {
        send(peer.get_mut(), b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = match request.header("transfer-encoding") {
        Some(_) => read_chunks(peer)?,
        None => {
            let length = request.header("content-length").map_or(Ok(0), str::parse);
            let length = length.map_err(|_| malformed("a length that is no number"))?;
            read_exactly(peer, length)?
        }
    };
    Ok(Some(request))
}

fn read_chunks(peer: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(peer)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length =
            usize::from_str_radix(digits, 16).map_err(|_| malformed("a chunk without a length"))?;
        if length == 0 {
            // What follows the last chunk is of no interest.
            while !read_line(peer)?.is_empty() {}
            return Ok(body);
        }
        body.extend(read_exactly(peer, length)?);
        read_line(peer)?;
        if body.len() > BODY_LIMIT {
            return Err(malformed("a body over the limit"));
        }
    }
}

fn read_exactly(peer: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY_LIMIT {
        return Err(malformed("a body over the limit"));
    }
    let mut body = vec![0; length];
    peer.read_exact(&mut body)?;
    Ok(body)
}

/// How an answer's body is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// After its length.
    Length,
    /// In chunks.
    Chunked,
    /// After its length, but only so much of it.
    Truncated(usize),
}

pub(super) fn write_answer(
    out: &mut impl Write,
    answer: &Answer,
    framing: Framing,
) -> io::Result<()> {
    let chunked = framing == Framing::Chunked && !answer.body.is_empty();
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        if !(chunked && name.eq_ignore_ascii_case("content-length")) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    } else if answer.header("content-length").is_none() && !matches!(answer.status, 204 | 304) {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    head.push_str("\r\n");
    let body = match framing {
        Framing::Chunked if chunked => {
            let length = format!("{:x}\r\n", answer.body.len());
            [length.as_bytes(), &answer.body, b"\r\n0\r\n\r\n"].concat()
        }
        Framing::Truncated(length) => answer.body.iter().take(length).copied().collect(),
        _ => answer.body.clone(),
    };
    send(out, &[head.as_bytes(), &body].concat())
}

pub(super) fn send(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        207 => "Multi-Status",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        422 => "Unprocessable Entity",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
