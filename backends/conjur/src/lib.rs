//! Conjur as a [`SecretResolver`](secret_resolver::SecretResolver): variables over TLS.
//!
//! A name `prod/db#password` is the variable `prod/db/password`. Logins are by API key, by JWT (`authn-jwt`), by client certificate
//! (`authn-cert`), or with the tokens that a sidecar writes into a file.
//!
//! # Security
//! - Values, tokens and ETags (a digest of the value) go from the answer into buffers that are wiped. No error, log line or `Debug` text
//!   holds one; no text of the store's is passed on.
//! - A refresh of a value that was read alone is a conditional read: "not changed" carries no value and proves the right to read it. A
//!   value that was read together with others has no mark, and is read again. The metadata of a variable prove no such right, and lengthen
//!   no life.
//! - A read is not sent with a token whose life is over. The life is `exp - iat` of the token, counted from the request for it: no clock
//!   of the server or of this machine has to be right.
//! - Tokens and credentials go to the endpoints of the target and nowhere else: no redirect is followed.
//! - The administrator does not log in here, unless it is allowed by a call that is named dangerous.
//!
//! # Many names
//! Names that are asked for at the same time through a [`Resolver`](secret_resolver::Resolver) are read in one request, as many as fit
//! into 6 KiB; 250 with [`ConjurBuilder::with_saas_batches`]. Each is answered for itself: one that is not there or may not be read is
//! looked for, asked alone, and stays apart for five seconds. Values that are together more than one answer may have come in more
//! answers. An answer with other ids than those asked for is believed for none of them.
//!
//! A user name and its password are two variables. Where they have to be of one moment, [`ConjurBuilder::with_record`] makes them the
//! fields of a record, which is read between two looks at their versions.
//!
//! # Several endpoints
//! The first that answers is asked: name the leader first. Followers are behind it, and no follower says by how much.
//!
//! - With [`ConjurBuilder::with_versions`] a value never goes back, whichever endpoints are behind or away: a version lower than one that
//!   was seen is refused, once each endpoint was asked. After a signal that names a version nothing lower is answered either
//!   (`Invalidator::invalidate_below_version`). A version that stays lower for ten seconds is taken for that of a variable that was
//!   created again: where the leader is away for longer, a follower that is still behind is believed then.
//! - Without versions a value has a mark that has no order. A follower that is behind is believed while the leader gives no answer, so a
//!   value may go back until the leader is found again.
//! - In both cases a signal that names no version says only that something changed. For the settle time after it
//!   (`ResolverBuilder::with_settle_time`) the value that was held is answered for a moment at a time, and asked for again. After that a
//!   follower that is still behind is believed: let the settle time be longer than the followers need.
//!
//! # Limits
//! A token cannot be revoked: it lives to its end, eight minutes by default, also after its API key was rotated. Conjur answers 404 alike
//! for a variable that is not there, that has no value, and that this identity may not see.
//!
//! Where the protocol's facts come from: exchanges recorded from Conjur OSS 1.24.0 and 1.22.2 (`tests/transcripts`), to which this
//! crate's tests hold it.

mod answers;
mod auth;
mod batch;
mod client;
mod config;
mod error;
mod moment;
mod names;
mod privilege;
mod resolver;
mod sidecar;
mod wire;

/// What `fuzz/` asserts; not part of an ordinary build.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Of answers to logins.
    pub fn token(data: &[u8]) {
        let _ = crate::wire::properties::hold_for_token(data);
    }

    /// Of answers to batches.
    pub fn batch(data: &[u8]) {
        let _ = crate::wire::properties::hold_for_batch(data);
    }

    /// Of the metadata of variables, errors that name one, and dynamic secrets.
    pub fn metadata(data: &[u8]) {
        let _ = crate::wire::properties::hold_for_metadata(data);
    }

    /// Of statuses, with the bodies that come with them.
    pub fn refusal(data: &[u8]) {
        let _ = crate::answers::properties::hold(data);
    }
}

pub use auth::Auth;
pub use config::{ConjurBuilder, ConjurTarget};
pub use resolver::ConjurBackend;
pub use secret_resolver_session::{Credential, Jwt, JwtFile, JwtFuture, JwtSource};
pub use secret_resolver_transport::{
    CertificateFiles, CertificateSource, ClientCertificate, LeftOut, Origin, Trust,
};

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
