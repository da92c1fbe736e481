//! The workspace's development tasks: `cargo xtask <command>`. It owns the choice of the command; each command has its own file.
//! Nothing here is part of what a user of the crates builds.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user there"
)]

mod api;
mod budget;
mod cluster;
mod coverage;
mod demo;
mod examples;
mod features;
mod fuzz;
mod links;
mod msrv;
mod mutants;
mod setup;
mod test;
mod threat_model;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>

  setup           install the servers that tests need, under target/tools
  test [filter…]  setup, then every example and test, then the threat model's check; with a filter, those tests alone
  threat-model    check THREAT_MODEL.md and threat-model-tests.txt against the last whole run of `test`
  mutants [part…] break each guarantee in a copy, and see that its test notices: a quarter of an hour; with parts of names, those alone
  mutants --sample N [--seed S] [--minutes M] [folder…]
                  try N mutants that nobody chose, all in one build
  cluster [secs]  the tests of a cluster under load alone, with faults that last this long; 60 s without a number
  fuzz [secs] […] look for inputs that break what must always hold, this long for each target, or for those with these names; 60 s without a number;
                  with --seed N, the same inputs each time
  coverage [filter…]
                  which lines the tests reach, of each file; fails below a floor
  features        lint every crate without features and with each one alone
  api [--bless]   what each crate makes public, against what stands in api/; with --bless, writes it
  budget          count the crates that users of ours compile, against their limits
  msrv            build with the oldest Rust that is promised, where it can be had
  links           check that what the Markdown files refer to is there
  demo            a real OpenBao and a double of Conjur, with TLS: resolve, cached, rotated, many at once, one away, refused";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = arguments
        .split_first()
        .map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
    let result = match (command, rest) {
        ("setup", []) => setup::run(),
        ("test", filter) => test::run(filter),
        ("threat-model", []) => threat_model::run(),
        ("mutants", filter) => mutants::run(filter),
        ("cluster", arguments) => cluster::run(arguments),
        ("coverage", filter) => coverage::run(filter),
        ("fuzz", arguments) => fuzz::run(arguments),
        ("features", []) => features::run(),
        ("api", arguments) => api::run(arguments),
        ("budget", []) => budget::run(),
        ("links", []) => links::run(),
        ("msrv", []) => msrv::run(),
        ("demo", []) => demo::run(),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
