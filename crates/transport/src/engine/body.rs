//! Bodies, both ways, in buffers that are wiped.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Buf, Frame, Incoming, SizeHint};
use secret_resolver::{Error, SecretBuf};

use crate::error::{malformed, of_exchange};

/// The first room for a body whose length the server did not say.
const FIRST_ROOM: usize = 4 << 10;

/// A request's body: one piece or none, wiped once it was written or dropped.
pub(crate) struct Outgoing(Option<Piece>);

pub(crate) struct Piece {
    buf: SecretBuf,
    sent: usize,
}

impl Outgoing {
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    pub(crate) fn new(buf: SecretBuf) -> Self {
        Self(Some(Piece { buf, sent: 0 }))
    }
}

impl Body for Outgoing {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.0.as_ref().map_or(0, Piece::remaining);
        SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.buf.len() - self.sent
    }

    fn chunk(&self) -> &[u8] {
        self.buf.expose().get(self.sent..).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.sent = self.buf.len().min(self.sent + count);
    }
}

/// Reads a body of at most `limit` bytes.
///
/// An answer that declares more is refused before a byte of it is read; one that declares nothing is
/// counted as it comes, and the room for it grows into new buffers, each old one being wiped.
pub(super) async fn collect(mut body: Incoming, limit: usize) -> Result<SecretBuf, Error> {
    let over = || malformed("the answer's body is over the client's limit; is this the store?");
    let room = match body.size_hint().exact() {
        Some(declared) => usize::try_from(declared)
            .ok()
            .filter(|room| *room <= limit)
            .ok_or_else(over)?,
        None => FIRST_ROOM.min(limit),
    };
    let mut buf = SecretBuf::with_capacity(room)?;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        // The other kind of frame is trailers, which no store uses.
        let Ok(data) = frame.map_err(|error| of_exchange(&error))?.into_data() else {
            continue;
        };
        let needed = buf.len().saturating_add(data.len());
        if needed > limit {
            return Err(over());
        }
        if needed > buf.capacity() {
            let mut larger = SecretBuf::with_capacity((needed.saturating_mul(2)).min(limit))?;
            larger.push(buf.expose())?;
            buf = larger;
        }
        buf.push(&data)?;
    }
    Ok(buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_of_a_body_is_not_written_again() {
        let buf = SecretBuf::from_slice(b"0123456789").unwrap();
        let mut body = Outgoing::new(buf);
        assert_eq!(body.size_hint().exact(), Some(10));
        let frame =
            Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
        let Poll::Ready(Some(Ok(frame))) = frame else {
            panic!("it is one piece");
        };
        let Ok(mut piece) = frame.into_data() else {
            panic!("it is data");
        };
        for (count, left) in [(0, "0123456789"), (4, "456789"), (5, "9"), (1, ""), (7, "")] {
            piece.advance(count);
            assert_eq!(piece.chunk(), left.as_bytes());
            assert_eq!(piece.remaining(), left.len());
        }
        assert!(body.is_end_stream());
    }
}
