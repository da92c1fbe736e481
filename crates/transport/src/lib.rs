//! The one HTTPS client of the secret-resolver crates: egress closed by default.
//!
//! A store's answer is only as trustworthy as the way it came. So every backend speaks through
//! this client, which can do one thing, a small request and a small answer over HTTPS, and
//! cannot be talked into anything else:
//!
//! - **https only**, TLS 1.3 or 1.2, HTTP/1.1 only.
//! - **Only the given authorities** ([`Trust`]), with their dates checked at load and at each handshake;
//!   the system's only by a call that is named dangerous, and an identity in place of a host's name only by
//!   [`Trust::of_identity`]. Sessions are not resumed, so each connection is checked.
//! - **A client certificate** where one is given ([`ClientBuilder::with_client_certificate`]), on every connection; while
//!   its source has none, no connection is made. When it or the authorities become others, the connections that were
//!   made with those before are closed: idle ones at once, busy ones when their request has ended.
//! - **Only listed origins** ([`ClientBuilder::allow`]): for others no packet is sent.
//! - **No redirect** is followed: one is an error, and its `Location` is not read.
//! - **No proxy**, and nothing is read from the environment. (The system's name resolver may: it
//!   is not ours. What it answers still has to show the right certificate.)
//! - **Bounded**: the body by [`ClientBuilder::with_body_limit`], the head by 32 KiB and 100
//!   headers, the time by the injected [`Clock`](secret_resolver::Clock).
//! - **A body comes as a [`SecretBuf`](secret_resolver::SecretBuf)** and goes as one. Errors name
//!   the origin and the status, never what a server, a header or a foreign library said.
//!
//! ```no_run
//! use std::sync::Arc;
//! use secret_resolver::backend::SystemClock;
//! use secret_resolver::Clock;
//! use secret_resolver_transport::{Client, Method, Origin, Request, Trust};
//!
//! # async fn example() -> Result<(), secret_resolver::Error> {
//! let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared()?);
//! let vault = Origin::parse("https://vault.example:8200")?;
//! let client = Client::builder(Trust::from_file("/etc/vault/ca.pem")?, clock)
//!     .allow(vault.clone())
//!     .build()?;
//! let request = Request::new(Method::Get, "/v1/secret/data/prod/db")?
//!     .with_secret_header("X-Vault-Token", b"token from the login")?;
//! let response = client.send(&vault, request).await?;
//! assert_eq!(response.status(), 200);
//! let body = response.into_body();
//! # let _ = body;
//! # Ok(())
//! # }
//! ```
//!
//! # Why not reqwest
//!
//! It would be 80 crates for 26 (counted by `cargo tree`: reqwest 0.13.5, and hyper 1.12 with tokio-rustls, both with aws-lc-rs), and
//! most of what it adds is what must not happen here:
//! redirects (which keep `X-Vault-Token` across hosts), proxies from the environment, cookies,
//! compression, further authorities. Each can be switched off, and each can be switched on again
//! by the features of an unrelated crate. Here none of that code is in the tree.
//!
//! # What stays in memory
//!
//! What this crate holds is wiped when it goes: bodies both ways, headers given to
//! [`Request::with_secret_header`], and the bytes of a client's private key as they were read. (An
//! answer's headers are not treated as secrets.) The libraries
//! below keep copies that cannot be wiped from outside: rustls the decrypted record and its 4 KiB
//! reader, hyper its read buffer of 8 to 32 KiB and the buffer into which it writes a request's
//! head, with the token. They are freed with the connection, at the latest 30 s after its last
//! request, but not wiped: the value may stand in freed memory until something else is written
//! there. The library that signs with a private key keeps it for as long as its certificate is in use. HTTP/1.1 alone, few and short-lived idle connections and small buffers keep the copies
//! few; two to four of a value were found in processes with a client of these libraries.
//!
//! # Features
//!
//! `aws-lc-rs` (default; prefers the key exchange that a quantum computer does not break) or
//! `ring`: the cryptography under TLS. With both, aws-lc-rs is taken.

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("secret-resolver-transport needs one of its features aws-lc-rs and ring");

mod certificate;
mod chain;
mod client;
mod encode;
mod endpoints;
mod engine;
mod error;
mod identity;
mod looks;
mod origin;
mod request;
mod response;
mod tls;
mod trust;

/// What `fuzz/` asserts; not part of an ordinary build.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Of origins.
    pub fn origin(data: &[u8]) {
        let _ = crate::origin::properties::hold(data);
    }

    /// Of texts of authorities.
    pub fn pem(data: &[u8]) {
        let _ = crate::trust::properties::hold_for_pem(data);
    }

    /// Of certificates.
    pub fn certificate(data: &[u8]) {
        let _ = crate::trust::properties::hold_for_certificate(data);
    }

    /// Of private keys.
    pub fn key(data: &[u8]) {
        let _ = crate::certificate::key_properties(data);
    }

    /// Of answers over HTTP/1.1.
    pub fn head(data: &[u8]) {
        let _ = crate::engine::properties::hold(data);
    }
}

pub use certificate::{CertificateFiles, CertificateSource, ClientCertificate};
pub use client::{Client, ClientBuilder, Limits};
pub use encode::percent_encode;
pub use endpoints::{Endpoints, Reply};
pub use origin::Origin;
pub use request::{Method, Request};
pub use response::Response;
pub use trust::{Authorities, LeftOut, ServerIdentity, Trust};

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
