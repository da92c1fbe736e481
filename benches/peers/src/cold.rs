//! A burst of names that nobody has read before, from one real OpenBao over TLS on loopback.
//!
//! Each client is new in each round and has made one request before the clock starts, which logs in
//! where that is done and leaves one connection open; those that say so have made none.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use rustix::time::{ClockId, clock_gettime};
use secret_resolver::{Resolver, SecretBuf};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
use serde::Deserialize;
use test_servers::OpenBao;
use tokio::runtime::Runtime;
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};

use crate::peers;
use crate::source::value_of_32_bytes;
use crate::table;

const NAMES: usize = 200;
/// The first ones are not counted.
const ROUNDS: usize = 32;
const DROPPED: usize = 2;
/// In which the server ends the connections of the client before.
const PAUSE: Duration = Duration::from_millis(5);

/// A client, how it asks for the names, and whether it has asked before.
type Contestant = (&'static str, Kind, Way, bool);

#[derive(Clone, Copy)]
enum Kind {
    Ours,
    Reqwest,
    Vaultrs,
}

#[derive(Clone, Copy)]
enum Way {
    Batch,
    AtOnce(usize),
}

const BURSTS: [Contestant; 7] = [
    ("secret-resolver, get_many", Kind::Ours, Way::Batch, true),
    ("reqwest, 8 at once", Kind::Reqwest, Way::AtOnce(8), true),
    ("reqwest, 64 at once", Kind::Reqwest, Way::AtOnce(64), true),
    (
        "reqwest, 8 at once, no request before",
        Kind::Reqwest,
        Way::AtOnce(8),
        false,
    ),
    (
        "reqwest, 64 at once, no request before",
        Kind::Reqwest,
        Way::AtOnce(64),
        false,
    ),
    ("vaultrs, 8 at once", Kind::Vaultrs, Way::AtOnce(8), true),
    ("vaultrs, 64 at once", Kind::Vaultrs, Way::AtOnce(64), true),
];
const EIGHT: usize = 1;
const SIXTY_FOUR: usize = 2;

const ONE_BY_ONE: [Contestant; 3] = [
    ("secret-resolver, get", Kind::Ours, Way::AtOnce(1), true),
    ("reqwest", Kind::Reqwest, Way::AtOnce(1), true),
    ("vaultrs", Kind::Vaultrs, Way::AtOnce(1), true),
];
const REQWEST: usize = 1;

/// Milliseconds, and connections.
struct Sample {
    time: f64,
    cpu: f64,
    server_cpu: f64,
    connections: f64,
}

/// What every client is given.
struct Store {
    server: OpenBao,
    token: String,
    names: Vec<String>,
}

/// Also the path of the record, with its field; it stands in no burst.
const BEFORE: &str = "prod/before/db#password";
const FIELD: &str = "password";

impl Store {
    fn start(runtime: &Runtime) -> Self {
        let server = OpenBao::start().unwrap();
        server
            .policy(
                "reader",
                r#"path "secret/data/prod/*" { capabilities = ["read"] }"#,
            )
            .unwrap();
        let token = server
            .token(&["reader"], Duration::from_secs(3600))
            .unwrap();
        let store = Self {
            server,
            token,
            names: peers::names(NAMES),
        };
        runtime.block_on(store.fill());
        store
    }

    /// Not by the server's own program: 200 processes would take longer than the measure.
    async fn fill(&self) {
        let client = reqwest_client(self);
        let value = value_of_32_bytes();
        let body = serde_json::json!({
            "data": { FIELD: std::str::from_utf8(&value).unwrap() }
        });
        for name in self.names.iter().map(String::as_str).chain([BEFORE]) {
            let request = client
                .post(self.url(name))
                .header("X-Vault-Token", self.server.root_token())
                .body(body.to_string());
            request.send().await.unwrap().error_for_status().unwrap();
        }
    }

    fn url(&self, name: &str) -> String {
        format!("{}/v1/secret/data/{}", self.server.origin(), path(name))
    }

    fn ca_pem(&self) -> Vec<u8> {
        fs::read(self.server.ca_file()).unwrap()
    }
}

fn path(name: &str) -> &str {
    name.split_once('#').unwrap().0
}

enum Client {
    Ours(Resolver),
    Reqwest(reqwest::Client),
    Vaultrs(Box<VaultClient>),
}

impl Client {
    fn new(kind: Kind, store: &Store) -> Self {
        match kind {
            Kind::Ours => Self::Ours(resolver(store)),
            Kind::Reqwest => Self::Reqwest(reqwest_client(store)),
            Kind::Vaultrs => Self::Vaultrs(Box::new(vaultrs_client(store))),
        }
    }

    async fn burst(&self, store: &Store, way: Way) {
        match (self, way) {
            (Self::Ours(resolver), Way::Batch) => {
                let answers = resolver.get_many(&store.names).await;
                for answer in answers {
                    check(answer.unwrap().expose_str().unwrap());
                }
            }
            (_, Way::Batch) => unreachable!("only a resolver has batches"),
            (_, Way::AtOnce(most)) => {
                let gets: Vec<_> = store
                    .names
                    .iter()
                    .map(|name| self.get(store, name))
                    .collect();
                let mut gets = stream::iter(gets).buffer_unordered(most);
                while gets.next().await.is_some() {}
            }
        }
    }

    async fn get(&self, store: &Store, name: &str) {
        match self {
            Self::Ours(resolver) => {
                let secret = resolver.get(name).await.unwrap();
                check(secret.expose_str().unwrap());
            }
            Self::Reqwest(client) => {
                let request = client
                    .get(store.url(name))
                    .header("X-Vault-Token", &store.token)
                    .header("X-Vault-Request", "true");
                let answer = request.send().await.unwrap().error_for_status().unwrap();
                let body = answer.bytes().await.unwrap();
                let answer: Answer = serde_json::from_slice(&body).unwrap();
                check(&answer.data.data[FIELD]);
                assert_eq!(answer.data.metadata.version, 1);
            }
            Self::Vaultrs(client) => {
                let data: HashMap<String, String> =
                    vaultrs::kv2::read(&**client, "secret", path(name))
                        .await
                        .unwrap();
                check(&data[FIELD]);
            }
        }
    }
}

fn check(value: &str) {
    assert_eq!(value.as_bytes(), value_of_32_bytes().as_slice());
}

/// As a service sets it up: see the README of the library.
fn resolver(store: &Store) -> Resolver {
    let token = SecretBuf::from_slice(store.token.as_bytes()).unwrap();
    let target = VaultTarget::new(
        Origin::parse(&store.server.origin()).unwrap(),
        Trust::from_file(store.server.ca_file()).unwrap(),
        Auth::token(Credential::value(token)),
    );
    let backend = VaultBackend::builder(target).build().unwrap();
    Resolver::builder(backend).build().unwrap()
}

fn reqwest_client(store: &Store) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(&store.ca_pem()).unwrap();
    reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .tls_certs_only([authority])
        .build()
        .unwrap()
}

fn vaultrs_client(store: &Store) -> VaultClient {
    let settings = VaultClientSettingsBuilder::default()
        .address(store.server.origin())
        .ca_certs(vec![store.server.ca_file().display().to_string()])
        .identity(None)
        .token(store.token.as_str())
        .verify(true)
        .build()
        .unwrap();
    VaultClient::new(settings).unwrap()
}

/// As much of an answer as a careful user would read by hand.
#[derive(Deserialize)]
struct Answer {
    data: Kv,
}

#[derive(Deserialize)]
struct Kv {
    data: HashMap<String, String>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

async fn sample(store: Arc<Store>, (_, kind, way, before): Contestant) -> Sample {
    let client = Client::new(kind, &store);
    if before {
        client.get(&store, BEFORE).await;
    }
    let pid = store.server.pid();
    let at_start = (opened(), cpu(), cpu_of(pid));
    let began = Instant::now();
    client.burst(&store, way).await;
    let time = began.elapsed().as_secs_f64() * 1e3;
    Sample {
        time,
        cpu: cpu() - at_start.1,
        server_cpu: cpu_of(pid) - at_start.2,
        connections: opened() - at_start.0,
    }
}

/// The TCP connections that were opened from here since the machine started, anybody's.
fn opened() -> f64 {
    let counts = fs::read_to_string("/proc/net/snmp").unwrap();
    let mut tcp = counts.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, counts) = (tcp.next().unwrap(), tcp.next().unwrap());
    let mut both = names.split(' ').zip(counts.split(' '));
    let (_, count) = both.find(|(name, _)| *name == "ActiveOpens").unwrap();
    count.parse().unwrap()
}

/// Milliseconds of all threads of this process.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Milliseconds of all threads of another process.
fn cpu_of(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let nanos = tasks.map(|task| {
        let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        stat.split(' ')
            .next()
            .and_then(|on_cpu| on_cpu.parse::<f64>().ok())
    });
    nanos.flatten().sum::<f64>() / 1e6
}

pub fn measure(runtime: &Runtime) {
    let store = Arc::new(Store::start(runtime));
    let all: Vec<_> = BURSTS.into_iter().chain(ONE_BY_ONE).collect();
    let mut samples: Vec<Vec<Sample>> = all.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for at in 0..all.len() {
            let at = (at + round) % all.len();
            std::thread::sleep(PAUSE);
            let burst = sample(Arc::clone(&store), all[at]);
            let sample = runtime.block_on(async move { tokio::spawn(burst).await });
            if round >= DROPPED {
                samples[at].push(sample.unwrap());
            }
        }
    }
    let (bursts, one_by_one) = samples.split_at(BURSTS.len());
    print(
        "Cold: 200 names that were not read before, one OpenBao, TLS on loopback",
        &BURSTS,
        bursts,
        &[("to reqwest, 8", EIGHT), ("to reqwest, 64", SIXTY_FOUR)],
    );
    print(
        "The same, one by one",
        &ONE_BY_ONE,
        one_by_one,
        &[("to reqwest", REQWEST)],
    );
}

fn print(title: &str, peers: &[Contestant], samples: &[Vec<Sample>], beside: &[(&str, usize)]) {
    let column = |peer: usize, of: fn(&Sample) -> f64| samples[peer].iter().map(of).collect();
    let median = |peer: usize, of| table::median(column(peer, of));
    let ratio = |peer: usize, base: usize| {
        let pairs = samples[peer].iter().zip(&samples[base]);
        table::median(pairs.map(|(a, b)| a.time / b.time).collect())
    };
    let head: Vec<_> = ["client", "time"]
        .into_iter()
        .chain(beside.iter().map(|(label, _)| *label))
        .chain(["spread", "connections opened", "its CPU", "the store's CPU"])
        .collect();
    let rows: Vec<_> = (0..peers.len())
        .map(|peer| {
            let mut row = vec![
                peers[peer].0.to_owned(),
                format!("{:.1} ms", median(peer, |sample| sample.time)),
            ];
            row.extend(
                beside
                    .iter()
                    .map(|(_, base)| format!("{:.2}", ratio(peer, *base))),
            );
            row.extend([
                format!(
                    "{:.0} %",
                    table::spread(column(peer, |sample| sample.time)) * 100.0
                ),
                format!("{:.0}", median(peer, |sample| sample.connections)),
                format!("{:.0} ms", median(peer, |sample| sample.cpu)),
                format!("{:.0} ms", median(peer, |sample| sample.server_cpu)),
            ]);
            row
        })
        .collect();
    table::print(title, &head, &rows);
}
