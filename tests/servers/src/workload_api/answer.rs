//! What the server answers to one call: steps, one after the other.

use bytes::Bytes;

use super::messages::framed;

/// The answer to one call. A call that it does not end stays open: of [`WorkloadMethod::X509Svid`](super::WorkloadMethod::X509Svid)
/// for what [`WorkloadApi::push`](super::WorkloadApi::push) gives later, else in silence.
///
/// ```
/// use test_servers::Answer;
/// let half = Answer::message(b"whole").raw(b"\0\0\0\0\x05ha").end_without_status();
/// let no = Answer::status(7, "no identity issued");
/// # drop((half, no));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Answer(pub(super) Vec<Step>);

#[derive(Clone, Debug)]
pub(super) enum Step {
    Bytes(Bytes),
    Endless(Bytes),
    Status(u16, String),
    EndWithoutStatus,
    Reset,
    HangUp,
    Http(u16),
}

impl Answer {
    /// Nothing, not even a head.
    #[must_use]
    pub fn silence() -> Self {
        Self::default()
    }

    /// A message.
    #[must_use]
    pub fn message(message: &[u8]) -> Self {
        Self::default().then(message)
    }

    /// No message, but this status of gRPC: 3 is `InvalidArgument`, 7 `PermissionDenied`, 12 `Unimplemented`, 14 `Unavailable`.
    #[must_use]
    pub fn status(code: u16, text: &str) -> Self {
        Self::default().and_status(code, text)
    }

    /// A message and the status of success, as calls are answered that have one answer.
    #[must_use]
    pub fn one(message: &[u8]) -> Self {
        Self::message(message).and_status(0, "")
    }

    /// These bytes, which need not be a frame, nor a whole one.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::default().raw(bytes)
    }

    /// Plain HTTP with this status, as of a server that knows no gRPC.
    #[must_use]
    pub fn http(status: u16) -> Self {
        Self::default().step(Step::Http(status))
    }

    /// And then a message.
    #[must_use]
    pub fn then(self, message: &[u8]) -> Self {
        self.raw(&framed(message))
    }

    /// And then these bytes.
    #[must_use]
    pub fn raw(self, bytes: &[u8]) -> Self {
        self.step(Step::Bytes(Bytes::copy_from_slice(bytes)))
    }

    /// And then this message again and again, until the client goes away.
    #[must_use]
    pub fn endless(self, message: &[u8]) -> Self {
        self.step(Step::Endless(framed(message).into()))
    }

    /// And then these bytes again and again, until the client goes away.
    #[must_use]
    pub fn endless_raw(self, bytes: &[u8]) -> Self {
        self.step(Step::Endless(Bytes::copy_from_slice(bytes)))
    }

    /// And then this status, which ends the call.
    #[must_use]
    pub fn and_status(self, code: u16, text: &str) -> Self {
        self.step(Step::Status(code, text.to_owned()))
    }

    /// And then the end of the call, without the status that has to be there.
    #[must_use]
    pub fn end_without_status(self) -> Self {
        self.step(Step::EndWithoutStatus)
    }

    /// And then the call is broken off.
    #[must_use]
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// And then the whole connection is closed.
    #[must_use]
    pub fn hang_up(self) -> Self {
        self.step(Step::HangUp)
    }

    fn step(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }
}
