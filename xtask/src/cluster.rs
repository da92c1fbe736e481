//! `cluster`: the tests of a real cluster under load, with each fault lasting as long as is asked for.

use crate::setup;
use crate::workspace::{Result, cargo, run as run_command};

/// How long a fault lasts, where nobody says otherwise.
const SECONDS: &str = "60";

pub(crate) fn run(arguments: &[String]) -> Result {
    let seconds = match arguments {
        [] => SECONDS,
        [seconds] if seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0) => seconds,
        _ => return Err("usage: cargo xtask cluster [seconds]".to_owned()),
    };
    setup::stores()?;
    let mut command = cargo();
    command
        .args([
            "test",
            "--locked",
            "-p",
            "secret-resolver-vault",
            "--test",
            "cluster",
        ])
        .args(["--", "--nocapture", "--test-threads=1"])
        .env("SECRET_RESOLVER_SICK_SECONDS", seconds);
    run_command(&mut command)
}
