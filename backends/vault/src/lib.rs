//! Vault and OpenBao as a [`SecretResolver`](secret_resolver::SecretResolver): KV v2 over TLS.
//!
//! A name `prod/db#password` is the key `password` of the record at `prod/db` below the mount; a
//! name without a field means the key `value`. Logins are by AppRole, by a JWT, with Kubernetes, by a client
//! certificate or with a token that was given; the token is renewed while it is in use, replaced before it dies, and revoked at
//! shutdown if it is the backend's own.
//!
//! # Security
//! - Values and tokens go from the body of the answer straight into wiped buffers. No error, log
//!   line or `Debug` text holds one; no text of the store's is passed on.
//! - A denial is distinguished from a dead token by asking the token about itself, so a name that is denied
//!   causes no login, and a token that was revoked costs one. Only an answer in the store's own form
//!   counts, and one endpoint's word against another's is not believed.
//! - A read is not sent with a token whose life is over; an outage does not end a life. Logins are one at
//!   a time for each endpoint, and backed off for up to 30 s after a refusal; a changed credential ends the back-off. An
//!   outage holds back no login. A wrong secret id is sent three times, and then every 16 to 20 minutes, because the store
//!   [locks the role out](Auth::approle) after five.
//! - A token that is not used any more is revoked, if it is the backend's own.
//! - A client certificate is shown on every connection where the target has one
//!   ([`VaultTarget::with_client_certificate`]). With a listener that demands it, a copied token is worth nothing alone.
//! - Tokens go to the endpoints of the target and to nobody else: no redirect is followed.
//!
//! # Standbys
//! Standbys of OpenBao (2.5 and later) and of Vault Enterprise answer reads from their own data. They are behind the
//! leader by a tenth of a second as a rule, and by seconds, or for as long as it lasts, where the network between
//! them is broken. So a read may be answered with what was replaced a moment ago, and so may one that finds
//! nothing yet. What is done about it:
//! - After a signal ([`Invalidator`](secret_resolver::Invalidator)) the secret is read at the leader, whichever
//!   endpoint is asked, until it was answered and its settle time is over (within a minute of the signal): OpenBao 2.7 and later can be asked for that (`X-Vault-Index`). So "at once"
//!   after a signal means the leader's value there; if there is no leader, there is no answer.
//! - [`VaultTarget::read_at_leader`] reads everything in this way.
//! - A version lower than one that was seen is not accepted; each other endpoint is asked for a better one.
//!
//! Vault, and OpenBao before 2.7, cannot be asked in this way. There, or without a signal, "at once" means what the endpoint
//! that is asked knows: let the first endpoint be the leader (a load balancer can find it by `sys/health`), or
//! switch reads at standbys off (`disable_standby_reads`).
//!
//! # Limits
//! The token of a backend that is dropped without a shutdown lives to its end; so does one whose login was
//! answered too late to be read. Within the process, for the copies that TLS and HTTP make, see the
//! transport. The metadata of a record (`custom_metadata`, `deletion_time`) is not read.
//!
//! Where the protocol's facts come from: OpenBao's API documentation for KV v2 and for AppRole, JWT, Kubernetes, TLS
//! certificate and token auth, checked on a running OpenBao 2.7.2 by this crate's tests.

mod alias;
mod answers;
mod auth;
mod client;
mod config;
mod error;
mod inline;
mod leader;
mod path;
mod privilege;
mod resolver;
mod wire;

/// What `fuzz/` asserts; not part of an ordinary build.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Of the bodies of answers.
    pub fn body(data: &[u8]) {
        let _ = crate::wire::properties::hold(data);
    }

    /// Of statuses, with the bodies that come with them.
    pub fn status(data: &[u8]) {
        let _ = crate::answers::properties::hold(data);
    }

    /// Of paths of requests.
    pub fn path(data: &[u8]) {
        let _ = crate::path::properties::hold(data);
    }
}

pub use auth::Auth;
pub use config::{VaultBuilder, VaultTarget};
pub use resolver::{VaultBackend, VaultStats};
pub use secret_resolver_session::{Credential, Jwt, JwtFile, JwtFuture, JwtSource};
pub use secret_resolver_transport::{
    CertificateFiles, CertificateSource, ClientCertificate, LeftOut, Origin, Trust,
};

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
