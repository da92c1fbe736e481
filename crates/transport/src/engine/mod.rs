//! One request and its answer over HTTP/1.1: the part that a leaner engine may replace.
//!
//! Except for header values, nothing of hyper is named outside this folder. It decides no policy; it makes
//! connections, keeps a few, and moves bytes between them and buffers that are wiped.
//!
//! No task runs a connection: the future that waits for an answer drives it. So dropping that
//! future ends the connection and everything that belongs to the request, at once.

mod body;
mod connect;
mod connection;
mod pool;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;

pub(crate) use body::Outgoing;
pub(crate) use connect::{Target, Tls, connect};
pub(crate) use connection::Connection;
pub(crate) use pool::Pool;
