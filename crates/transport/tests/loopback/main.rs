//! The client against real TLS on loopback: what it lets out, what it believes, how long it waits
//! and how much it reads.
//!
//! No store is imitated here; the servers say what an honest one would not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy excuses test functions, but not their helpers"
)]

mod answers;
mod begun;
mod certificates;
mod chains;
mod connections;
mod egress;
mod environment;
mod identities;
mod places;
mod silence;
mod support;
mod time;
mod trust;
