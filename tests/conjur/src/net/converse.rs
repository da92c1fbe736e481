//! One connection from its handshake to its end: requests, their record, faults and answers.

use std::io::{self, BufReader};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{HandshakeKind, ServerConnection, StreamOwned};
use test_servers::RequestHead;

use super::http::{Framing, read_request, send, write_answer};
use super::{change_connection, pause};
use crate::endpoint::{Endpoint, lock};
use crate::log::Logged;
use crate::routes::{self, Peer};
use crate::{Fault, Version};

type Stream<'a> = BufReader<StreamOwned<ServerConnection, &'a TcpStream>>;

/// How long a held answer waits before it looks again whether the port is still open.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn serve(
    endpoint: &Endpoint,
    stream: &TcpStream,
    number: u64,
    opening: u64,
    swallowed: bool,
) -> io::Result<()> {
    let mut raw = stream;
    if swallowed {
        return io::copy(&mut raw, &mut io::sink()).map(drop);
    }
    let tls = Arc::clone(&lock(&endpoint.tls));
    let mut connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    connection.complete_io(&mut raw)?;
    let certificate = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|certificate| certificate.to_vec());
    change_connection(&endpoint.shared, number, |it| {
        it.established = true;
        it.resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        it.peer_certificate.clone_from(&certificate);
    });
    let peer = Peer {
        address: stream
            .peer_addr()
            .map_or([127, 0, 0, 1].into(), |it| it.ip()),
        certificate,
    };
    let mut conversation = Conversation {
        endpoint,
        number,
        opening,
        peer,
        stream: BufReader::new(StreamOwned::new(connection, raw)),
    };
    while let Some(request) = read_request(&mut conversation.stream)? {
        if !conversation.answer(&request)? {
            break;
        }
    }
    Ok(())
}

struct Conversation<'a> {
    endpoint: &'a Endpoint,
    number: u64,
    opening: u64,
    peer: Peer,
    stream: Stream<'a>,
}

impl Conversation<'_> {
    /// Answers one request, or does what a fault asks for; whether the connection goes on.
    fn answer(&mut self, request: &RequestHead) -> io::Result<bool> {
        let kind = routes::kind(self.endpoint, request);
        let logged = Logged {
            endpoint: self.endpoint.number,
            connection: self.number,
            kind,
            request: request.clone(),
            status: None,
        };
        // Decided before it is recorded, so that a test that has seen the record can end the fault for all later requests.
        let fault = {
            let mut faults = self.endpoint.faults();
            match faults.black_hole {
                true => Some(Fault::Hang),
                false => faults.take(kind, &request.target),
            }
        };
        let at = self.endpoint.shared.log.change(|records| {
            records.requests.push(logged);
            records.forgotten + records.requests.len() - 1
        });
        let honest = || {
            let answer = routes::answer(self.endpoint, request, &self.peer);
            self.record_status(at, answer.status);
            answer
        };
        let mut framing = match self.endpoint.shared.switches().version {
            Version::V1_24 => Framing::Length,
            Version::V1_22 => Framing::Chunked,
        };
        let answer = match fault {
            None => honest(),
            Some(Fault::Answer(answer)) => {
                self.record_status(at, answer.status);
                answer
            }
            Some(Fault::Delay(time)) => match self.pause(time) {
                true => honest(),
                false => return Ok(false),
            },
            Some(Fault::Late(time)) => {
                let answer = honest();
                match self.pause(time) {
                    true => answer,
                    false => return Ok(false),
                }
            }
            Some(Fault::Held(gate)) => {
                let answer = honest();
                while !gate.wait(LOOK) {
                    if !self.pause(Duration::ZERO) {
                        return Ok(false);
                    }
                }
                answer
            }
            Some(Fault::Hang) => {
                // What the peer says meanwhile is of no interest; its leaving ends the copy.
                io::copy(&mut self.stream, &mut io::sink())?;
                return Ok(false);
            }
            Some(Fault::Close) => return Ok(false),
            Some(Fault::Raw(bytes)) => {
                send(self.stream.get_mut(), &bytes)?;
                return self.end();
            }
            Some(Fault::Truncate(length)) => {
                framing = Framing::Truncated(length);
                honest()
            }
        };
        write_answer(self.stream.get_mut(), &answer, framing)?;
        let asked_to_close =
            |value: Option<&str>| value.is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let ends = asked_to_close(request.header("connection"))
            || asked_to_close(answer.header("connection"))
            || matches!(framing, Framing::Truncated(_));
        if ends { self.end() } else { Ok(true) }
    }

    /// Whether the port is still open after a while.
    fn pause(&self, time: Duration) -> bool {
        pause(self.endpoint, self.opening, time)
    }

    fn record_status(&self, at: usize, status: u16) {
        self.endpoint.shared.log.change(|records| {
            // The record may have been forgotten meanwhile.
            let at = at.checked_sub(records.forgotten);
            if let Some(logged) = at.and_then(|at| records.requests.get_mut(at)) {
                logged.status = Some(status);
            }
        });
    }

    /// A clean end of TLS: what is missing from the answer is then the answer's fault alone.
    fn end(&mut self) -> io::Result<bool> {
        let tls = self.stream.get_mut();
        tls.conn.send_close_notify();
        tls.conn.complete_io(&mut tls.sock)?;
        Ok(false)
    }
}
