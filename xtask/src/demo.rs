//! `cargo xtask demo`: the main job, with a real OpenBao and a double of Conjur. It only sets up, builds and starts the example `demo` of
//! `examples/services`, so that the tasks themselves compile in a moment. The example checks its steps and gives the verdict.

use crate::workspace::Result;
use crate::{examples, setup};

pub(crate) fn run() -> Result {
    setup::stores()?;
    println!("building the demo: a minute or two the first time");
    let demo = examples::build(&[
        "--locked",
        "--package",
        "service-examples",
        "--example",
        "demo",
    ])?;
    demo.first().ok_or("cargo built no demo")?.run()
}
