//! The double held to what a real Conjur was recorded to say, to the same rules with other names and values, and to its own switches.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acme;
mod batches;
mod certificates;
mod client;
mod exchanges;
mod faults;
mod logins;
mod network;
mod official_client;
mod placeholders;
mod policies;
mod random;
mod reads;
mod replay;
mod switches;
