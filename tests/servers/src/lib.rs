//! Servers on loopback for this workspace's tests, examples and demo: a real OpenBao, a real nginx before it, a real PostgreSQL, a real
//! SPIRE, and a scripted HTTPS server and a scripted SPIFFE Workload API for the answers that a real one cannot be made to give.
//!
//! It owns starting, steering and ending those servers, and the certificates they need. It does not speak the stores'
//! protocols: what is administered goes through the server's own command line tool, so no helper here can share a mistake with the
//! code under test.
//!
//! Every server ends with the value that stands for it: when it is dropped, when its test panics, and when the process that started
//! it is killed. A missing server is an error that says how to get it, never a test that passes in silence.
//!
//! All calls block; in an asynchronous test they are made before the part that is measured.

mod cli;
mod cluster;
mod durable;
mod error;
mod flawed;
mod jwt;
mod nginx;
mod openbao;
mod postgres;
mod process;
mod scripted;
mod seeds;
mod spire;
mod tls;
pub mod tools;
mod workload_api;

pub use cli::AppRole;
pub use cluster::{Cluster, Snapshot};
pub use error::Error;
pub use flawed::{Between, Flaw, Intermediate};
pub use jwt::TestIssuer;
pub use nginx::Nginx;
pub use openbao::OpenBao;
pub use postgres::Postgres;
pub use scripted::{ENDLESS_LIMIT, Reply, RequestHead, ScriptedHttps};
pub use seeds::try_seeds;
pub use spire::{
    Authorities, Authority, JwtKey, JwtSvid, Registration, Spire, SpireKey, SpireSettings, Watch,
    X509Svid,
};
pub use tls::{ServerCert, TestCa, Validity};
pub use workload_api::{
    Answer, Manner, SvidFlaw, TestSvid, TestTrustDomain, WorkloadApi, WorkloadCall, WorkloadMethod,
    X509Message, jwt_bundles_message, jwt_message, x509_bundles_message,
};
