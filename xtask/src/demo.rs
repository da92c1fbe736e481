//! `cargo xtask demo`: the main job on a real server. It only sets up, builds and starts the Vault backend's example `demo`, so that the
//! tasks themselves compile in a moment. The example checks its steps and gives the verdict.

use crate::workspace::Result;
use crate::{examples, setup};

pub(crate) fn run() -> Result {
    setup::stores()?;
    println!("building the demo: a minute or two the first time");
    let demo = examples::build(&[
        "--locked",
        "--package",
        "secret-resolver-vault",
        "--example",
        "demo",
    ])?;
    demo.first().ok_or("cargo built no demo")?.run()
}
