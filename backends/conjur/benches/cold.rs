//! What 200 names of Conjur cost that were not read before: one by one, all at the same time, and together.
//!
//! `cargo bench -p secret-resolver-conjur --bench cold`; the figures and how to read them are in `benches/README.md` of the workspace.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::print_stdout, reason = "its output is a table")]

use std::time::Duration;

use conjur_double::{ConjurDouble, Fault, Kind, Where};
use secret_resolver::backend::{Located, NameRef, Request, ResolveFuture, ShutdownFuture};
use secret_resolver::{Error, Moment, Resolver, Secret, SecretBuf, SecretResolver};
use secret_resolver_conjur::{Auth, ConjurBackend, ConjurTarget, Credential, Trust};

const NAMES: usize = 200;
const ROUNDS: usize = 15;
/// How much later an answer comes than from the same machine: not at all, as in one data centre with a proxy before the store, and far.
const LATER: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(5),
    Duration::from_millis(20),
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // Without it, as a test of itself: `cargo test --bench cold`.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let rounds = if is_measured { ROUNDS } else { 1 };
    let server = server();
    println!("{NAMES} names, {rounds} rounds, load average {}", load());
    println!(
        "\n| an answer comes later by | how they are asked for | requests | time | beside the last |"
    );
    println!("|---|---|---|---|---|");
    for later in LATER {
        server.clear_faults();
        if later > Duration::ZERO {
            server.fault_always(Where::Anywhere, Fault::Late(later));
        }
        let mut samples = WAYS.map(|_| Vec::new());
        for round in 0..rounds {
            // Each begins in its turn, so that what disturbs them disturbs all alike.
            for turn in 0..WAYS.len() {
                let way = (round + turn) % WAYS.len();
                samples[way].push(WAYS[way].measure(&server).await);
            }
        }
        report(later, &samples);
    }
}

#[derive(Clone, Copy)]
enum Way {
    /// Each `get` waits for the one before.
    InTurn,
    /// `get_many`, of a store that reads one name in a request.
    Apart,
    /// `get_many`, as it is.
    Together,
}

const WAYS: [Way; 3] = [Way::InTurn, Way::Apart, Way::Together];

struct Sample {
    requests: usize,
    took: Duration,
}

impl Way {
    /// With a resolver of its own, which has read another name before: so the login is done, and one connection is open.
    async fn measure(self, server: &ConjurDouble) -> Sample {
        let resolver = self.resolver(server);
        drop(resolver.get("bulk/first").await.unwrap());
        let names: Vec<_> = (0..NAMES).map(name).collect();
        let requests = || server.count(Kind::Secret) + server.count(Kind::Batch);
        let clock = resolver.clock();
        let (start, before) = (clock.now(), requests());
        let answers = match self {
            Self::InTurn => {
                let mut answers = Vec::with_capacity(NAMES);
                for name in &names {
                    answers.push(resolver.get(name).await);
                }
                answers
            }
            Self::Apart | Self::Together => resolver.get_many(&names).await,
        };
        let took = clock.now().since(start);
        let requests = requests() - before;
        are_right(answers);
        resolver.shutdown_within(Duration::from_secs(5)).await;
        server.forget_requests();
        Sample { requests, took }
    }

    fn resolver(self, server: &ConjurDouble) -> Resolver {
        let key = SecretBuf::from_slice(server.key_of(READER).as_bytes()).unwrap();
        let auth = Auth::api_key(READER, Credential::value(key));
        let trust = Trust::from_pem(server.ca_pem().as_bytes()).unwrap();
        let target = ConjurTarget::new(server.origin(), trust, server.account(), auth);
        let backend = ConjurBackend::builder(target).build().unwrap();
        match self {
            Self::Apart => Resolver::builder(OneByOne(backend)),
            Self::InTurn | Self::Together => Resolver::builder(backend),
        }
        .build()
        .unwrap()
    }

    fn title(self) -> &'static str {
        match self {
            Self::InTurn => "`get`, one after the other",
            Self::Apart => "`get_many` without batches",
            Self::Together => "`get_many`",
        }
    }
}

/// The same store, if it could not read several names in one request.
#[derive(Debug)]
struct OneByOne(ConjurBackend);

impl SecretResolver for OneByOne {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.0.resolve(request)
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        self.0.locate(name)
    }

    fn identity(&self) -> u64 {
        self.0.identity()
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.0.shutdown(deadline)
    }
}

const READER: &str = "host/apps/reader";

/// Each takes 37 bytes in the address of a batch, the account and the kind included.
fn name(number: usize) -> String {
    format!("bulk/{number:011}")
}

fn server() -> ConjurDouble {
    let server = ConjurDouble::start().unwrap();
    server.add_host("apps/reader");
    for id in (0..NAMES).map(name).chain(["bulk/first".to_owned()]) {
        server.add_variable(&id);
        server.set(&id, id.as_bytes());
        server.allow_read("host:apps/reader", &id);
    }
    server
}

fn are_right(answers: Vec<Result<Secret, Error>>) {
    assert_eq!(answers.len(), NAMES);
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().expose_str().unwrap(), name(number));
    }
}

/// A ratio is the median of those within a round.
fn report(later: Duration, samples: &[Vec<Sample>; WAYS.len()]) {
    let seconds = |sample: &Sample| sample.took.as_secs_f64();
    let last = &samples[WAYS.len() - 1];
    for (way, samples) in WAYS.iter().zip(samples) {
        let requests = median(samples.iter().map(|sample| sample.requests as f64));
        let took = median(samples.iter().map(seconds)) * 1e3;
        let rounds = samples.iter().zip(last);
        let ratio = median(rounds.map(|(sample, last)| seconds(sample) / seconds(last)));
        let title = way.title();
        let later = later.as_millis();
        println!("| {later} ms | {title} | {requests:.0} | {took:.1} ms | {ratio:.1} |");
    }
}

fn median(samples: impl Iterator<Item = f64>) -> f64 {
    let mut samples: Vec<_> = samples.collect();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
