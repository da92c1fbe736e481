//! The assembled resolver in real time, judged by what the store said, and when.
//!
//! Nothing here moves a clock: processes are stopped, threads block, seconds pass. So each bound has
//! room for a machine that is busy, and is far from the figure that shows the fault. What reads the
//! memory or the processor time of a whole process, or stops or forks one, has its own process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

mod batches;
mod callers;
mod flood;
mod forks;
mod handles;
mod late;
mod nested;
mod stalls;
mod strangers;
mod support;
mod wiping;
mod wishes;
