//! Vault and OpenBao as a [`SecretResolver`](secret_resolver::SecretResolver): KV v2 over TLS.
//!
//! A name `prod/db#password` is the key `password` of the record at `prod/db` below the mount; a
//! name without a field means the key `value`. Logins are by AppRole or with a token that was
//! given; the token is renewed while it is in use, replaced before it dies, and revoked at
//! shutdown if it is the backend's own.
//!
//! # Security
//! - Values and tokens go from the body of the answer straight into wiped buffers. No error, log
//!   line or `Debug` text holds one; no text of the store's is passed on.
//! - A denial is told from a dead token by asking the token about itself, so a name that is denied
//!   causes no login, and a token that was revoked costs one.
//! - A token whose life is over is not sent; an outage does not end its life. Logins are one at a
//!   time, at most one a second in the long run, and backed off for up to 30 s after a refusal;
//!   a changed credential ends the back-off.
//! - Tokens go to the endpoints of the target and to nobody else: no redirect is followed.
//!
//! # Limits
//! A token that was replaced before its end is not revoked; it lives for the third of its life
//! that is left. So does the token of a backend that is dropped without a shutdown. Within the process, copies that TLS and HTTP make are the transport's to speak
//! of. The metadata of a record (`custom_metadata`, `deletion_time`) is not read.
//!
//! Where the protocol's facts come from: OpenBao's API documentation for KV v2, AppRole and token
//! auth, checked on a running OpenBao 2.7.2 by this crate's tests.

mod alias;
mod auth;
mod client;
mod config;
mod error;
mod json;
mod path;
mod race;
mod random;
mod resolver;
mod wire;

pub use auth::{Auth, Credential};
pub use config::{VaultBuilder, VaultTarget};
pub use resolver::{VaultBackend, VaultStats};
