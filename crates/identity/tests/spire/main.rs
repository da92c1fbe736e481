//! Identities of a real SPIRE, for logins to a real OpenBao and to a Conjur, and as client certificates. SPIRE 1.13.3, which `cargo xtask setup` builds.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../common/listener.rs"]
mod listener;
#[path = "../common/needles.rs"]
mod needles;

mod certificates;
mod conjur;
mod copied;
mod jwts;
mod leaks;
mod server;
mod stores;
mod support;
mod users;
