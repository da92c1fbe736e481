//! Ten thousand tasks ask for one cold name at once; the source takes 50 ms.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secret_vault::SecretVaultView as _;
use tokio::runtime::Runtime;

use crate::peers::{self, CAPACITY, TTL};
use crate::source::{Source, value_of_32_bytes};
use crate::table;

const TASKS: usize = 10_000;
const ROUNDS: usize = 30;
const DELAY: Duration = Duration::from_millis(50);
const NAME: &str = "prod/service-0/db#password";

struct Sample {
    fetches: usize,
    time: Duration,
}

/// The time from the first spawn to the last answer.
async fn herd<C, F>(source: Source, cache: C, get: impl Fn(Arc<C>) -> F) -> Sample
where
    C: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let cache = Arc::new(cache);
    let began = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| tokio::spawn(get(Arc::clone(&cache))))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    Sample {
        fetches: source.fetches(),
        time: began.elapsed(),
    }
}

const LABELS: [&str; 5] = [
    "secret-resolver",
    "moka future, try_get_with",
    "quick_cache, get_or_insert_async",
    "secret-vault: miss, then refresh_only_not_present",
    "aws_secretsmanager_caching",
];
const MOKA: usize = 1;

async fn sample(peer: usize) -> Sample {
    let source = Source::slow(value_of_32_bytes, DELAY);
    let fetched = source.clone();
    match peer {
        0 => {
            let resolver = peers::resolver(source.clone(), CAPACITY, TTL);
            herd(source, resolver, |resolver| async move {
                resolver.get(NAME).await.unwrap();
            })
            .await
        }
        MOKA => {
            let cache = (peers::moka_future(CAPACITY, TTL), source);
            herd(fetched, cache, |cache| async move {
                let fetch =
                    async { Ok::<_, std::convert::Infallible>(Arc::new(cache.1.fetch().await)) };
                cache.0.try_get_with(Box::from(NAME), fetch).await.unwrap();
            })
            .await
        }
        2 => {
            let cache = (peers::quick(CAPACITY), source);
            herd(fetched, cache, |cache| async move {
                let fetch =
                    async { Ok::<_, std::convert::Infallible>(Arc::new(cache.1.fetch().await)) };
                let name: Box<str> = Box::from(NAME);
                cache.0.get_or_insert_async(&name, fetch).await.unwrap();
            })
            .await
        }
        3 => {
            let refs = peers::vault_refs(&[NAME.to_owned()]);
            let vault = (peers::vault(source, &refs), refs);
            herd(fetched, vault, |vault| async move {
                let (vault, refs) = &*vault;
                if vault.get_secret_by_ref(&refs[0]).await.unwrap().is_none() {
                    vault.refresh_only_not_present().await.unwrap();
                    vault.require_secret_by_ref(&refs[0]).await.unwrap();
                }
            })
            .await
        }
        _ => {
            let client = peers::aws(&source, CAPACITY, TTL);
            herd(source, client, |client| async move {
                // Its error cannot cross threads, so it ends here.
                let answer = client.get_secret_value(NAME, None, None, false).await;
                assert!(answer.is_ok(), "the herd met an error");
            })
            .await
        }
    }
}

pub fn measure(runtime: &Runtime) {
    let mut samples: Vec<Vec<Sample>> = LABELS.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for at in 0..LABELS.len() {
            let peer = (at + round) % LABELS.len();
            let sample = runtime.block_on(async move { tokio::spawn(sample(peer)).await });
            samples[peer].push(sample.unwrap());
        }
    }
    let millis = |peer: usize| {
        table::median(
            samples[peer]
                .iter()
                .map(|sample| sample.time.as_secs_f64() * 1e3)
                .collect(),
        )
    };
    let rows: Vec<_> = LABELS
        .iter()
        .enumerate()
        .map(|(peer, label)| {
            let fetches = samples[peer].iter().map(|sample| sample.fetches as f64);
            vec![
                (*label).to_owned(),
                format!("{:.0}", table::median(fetches.collect())),
                format!("{:.0} ms", millis(peer)),
                format!("{:.2}", millis(peer) / millis(MOKA)),
            ]
        })
        .collect();
    table::print(
        "A herd: 10,000 tasks, one cold name, a source that takes 50 ms",
        &["peer", "fetches", "total time", "to moka"],
        &rows,
    );
}
