//! `secret-resolver` beside its peers, in one run: see README.md.
//!
//! Without an argument every measure; `hit`, `herd`, `memory`, `wipe` or `cold` for one of them.

mod cold;
mod herd;
mod hit;
mod memory;
mod peers;
mod source;
mod table;
mod wipe;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MEASURES: [&str; 5] = ["hit", "herd", "memory", "wipe", "cold"];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["wipe-one", peer] => wipe::measure_one(&runtime, peer.parse().unwrap()),
        [] => all(&runtime, &MEASURES),
        [measure] if MEASURES.contains(&measure) => all(&runtime, &[measure]),
        _ => {
            eprintln!("usage: peers [{}]", MEASURES.join(" | "));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn all(runtime: &tokio::runtime::Runtime, measures: &[&str]) {
    versions();
    for measure in measures {
        println!("\n(load average: {})", load());
        match *measure {
            "hit" => hit::measure(runtime),
            "herd" => herd::measure(runtime),
            "memory" => memory::measure(runtime),
            "wipe" => wipe::measure(),
            _ => cold::measure(runtime),
        }
    }
}

/// From the lock file of this build.
fn versions() {
    const PEERS: [&str; 9] = [
        "secret-resolver",
        "moka",
        "quick_cache",
        "secret-vault",
        "aws_secretsmanager_caching",
        "aws-sdk-secretsmanager",
        "arc-swap",
        "reqwest",
        "vaultrs",
    ];
    let lock = include_str!("../Cargo.lock");
    println!("versions:");
    for peer in PEERS {
        let entry = format!("name = \"{peer}\"\nversion = \"");
        let version = lock
            .split_once(&entry)
            .and_then(|(_, rest)| rest.split('"').next());
        println!("- {peer} {}", version.unwrap_or("?"));
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("\ncores: {cores}");
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
