//! A Conjur server in process, for the tests of what talks to Conjur: TLS, HTTP/1.1 with kept connections, tokens that expire,
//! permissions, versions, the batch read, logins by key, JWT and certificate, and the faults that no real server can be made to have.
//!
//! It computes each answer from its state. It is held to the exchanges that were recorded from a real Conjur
//! (`backends/conjur/tests/transcripts`), which a test replays against it; it never reads them itself. Where nothing is recorded it
//! does what the server's documentation says, and the place says so.
//!
//! It uses threads and blocking sockets, so that a test's paused or single-threaded runtime cannot hold it up. It listens on 127.0.0.1
//! alone, and ends with the value that stands for it.
//!
//! # Example
//! ```
//! use conjur_double::{ConjurDouble, Kind};
//! let conjur = ConjurDouble::start()?;
//! let key = conjur.add_host("apps/reader");
//! conjur.set("prod/db/password", "s3cr3t");
//! conjur.allow_read("host:apps/reader", "prod/db/password");
//! assert!(conjur.origin().starts_with("https://127.0.0.1:"));
//! assert!(!key.is_empty() && conjur.count(Kind::Secret) == 0);
//! # Ok::<(), conjur_double::Error>(())
//! ```

mod answer;
mod certificates;
mod clock;
mod control;
mod double;
mod endpoint;
mod error;
mod fault;
mod json;
mod jwt;
mod log;
mod net;
mod policy;
mod routes;
mod secret;
mod state;
mod switches;
mod url;

pub use answer::Answer;
pub use certificates::{ClientCa, ClientCertificate};
pub use control::{CertService, Host, JwtService};
pub use double::ConjurDouble;
pub use error::Error;
pub use fault::{Fault, Gate, Where};
pub use jwt::{Algorithm, Jwt, JwtKey};
pub use log::{Connection, Kind, Logged};
pub use switches::{ClientCertificates, Options, Prefix, Version};
