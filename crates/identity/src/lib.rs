//! SPIFFE identities for secret-resolver: a service proves who it is to its store by what an agent on its machine gives it, and keeps no
//! credential of its own.
//!
//! [`SpiffeIdentity`] speaks to the agent by the SPIFFE Workload API. It gives two sources, and a backend takes either: JWT-SVIDs for
//! logins ([`SpiffeIdentity::jwts`]), and the X509-SVID as the client certificate of every connection to a store
//! ([`SpiffeIdentity::certificates`]). With the second, a token or a JWT that somebody copies is worth nothing to him, where the store, or
//! a proxy before it, demands the certificate.
//!
//! ```no_run
//! use secret_resolver_spiffe::SpiffeIdentity;
//! # fn backend(_: impl secret_resolver_session::JwtSource, _: impl secret_resolver_transport::CertificateSource) {}
//!
//! let identity = SpiffeIdentity::builder("spiffe://example.org/billing", "/run/spire/agent/api.sock").build()?;
//! backend(identity.jwts("conjur")?, identity.certificates()?);
//! # Ok::<(), secret_resolver::Error>(())
//! ```
//!
//! # Security
//! - The socket's path comes from code, never from `SPIFFE_ENDPOINT_SOCKET`. Before each connection the guard looks at it: it is a
//!   socket, it and every folder above it belong to root or to the agent's user, and nobody else may write to one of these folders.
//!   After each connection the kernel says who listens there (`SO_PEERCRED`): root, or the agent's user.
//! - The SVID's SPIFFE ID is the configured one, or nothing is used. Trust bundles of the agent join no store's authorities.
//! - While there is no SVID, or it has ended, or the agent has withdrawn it, no connection is made and no login is sent.
//!
//! What the agent attests (which process may have which identity) is SPIRE's part. To be configured there: selectors that name this
//! workload alone (its user, its image's digest), a socket in a folder that only root or the agent's user may write to, mounted
//! read-only into a container, and one entry for each identity.
//!
//! For Conjur, SPIRE's server needs `jwt_key_type = "rsa-2048"`, because Conjur takes no signature on a curve, and a `jwt_issuer`, which the
//! service's variable `issuer` names: Conjur refuses a JWT that names none.
//!
//! # Limits
//! Below this crate, buffers of gRPC keep copies of what the agent sends, which nobody wipes. `tests/memory.rs` counts them. So many were
//! found; what reuses freed memory differs from run to run, so the test fails at three more copies of a JWT-SVID, or at one more of a key:
//!
//! | | in use | after the next came | after all was dropped |
//! |---|---|---|---|
//! | a JWT-SVID | 2 to 4, one of them ours | 0 to 5 | 1 to 3 |
//! | a private key, as the agent sent it | 2 | 2 | 2 |
//!
//! A key stays in the buffers of its stream until later messages are written over it, and then in freed memory until that is used again. What
//! the library that signs keeps, in a form of its own, is not counted. An allocator that wipes what is freed ends the copies in freed
//! memory; the application chooses one.
//!
//! At TRACE, the libraries below write the heads of frames, and none of what is in them.

mod agent;
mod bundles;
mod certificates;
mod claims;
mod error;
mod guard;
mod identity;
mod jwt;
mod pause;
mod reports;
mod server;
mod stream;
mod today;
mod worker;

/// What `fuzz/` asserts; not part of an ordinary build.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Of JWT-SVIDs.
    pub fn claims(data: &[u8]) {
        let _ = crate::claims::properties::hold(data);
    }
}

pub use certificates::SpiffeCertificates;
pub use identity::{SpiffeIdentity, SpiffeIdentityBuilder};
pub use jwt::SpiffeJwts;

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
