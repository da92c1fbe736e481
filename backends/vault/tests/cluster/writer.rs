//! A writer that knows what it wrote: each secret's value names its secret. For every other secret,
//! the writes that were acknowledged are signalled to readers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, Moment, Resolver, SecretBuf};
use secret_resolver_transport::{Client, Method, Origin, Request, Trust};
use test_servers::Cluster;

pub(crate) const NAMES: usize = 800;

/// What readers may rely on.
pub(crate) struct Written {
    /// By the number of a secret: no get that begins now may be answered a lower version.
    pub(crate) floors: Vec<AtomicU64>,
    /// When each write that was acknowledged began.
    pub(crate) acknowledged: Mutex<Vec<Moment>>,
    pub(crate) stop: AtomicBool,
}

pub(crate) fn name(number: usize) -> String {
    format!("app/{number}")
}

pub(crate) fn is_signalled(number: usize) -> bool {
    number.is_multiple_of(2)
}

/// Writes and does not wait long for an answer.
pub(crate) struct Writer {
    http: Client,
    origins: Vec<Origin>,
    token: String,
    next: usize,
}

impl Writer {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let clock = Arc::new(SystemClock::shared().unwrap());
        let trust = Trust::from_file(cluster.ca_file()).unwrap();
        let origins = cluster
            .origins()
            .map(|origin| Origin::parse(&origin).unwrap());
        let mut http = Client::builder(trust, clock).with_response_timeout(Duration::from_secs(1));
        for origin in &origins {
            http = http.allow(origin.clone());
        }
        Self {
            http: http.build().unwrap(),
            origins: origins.into(),
            token: cluster.root_token().to_owned(),
            next: 0,
        }
    }

    /// A new version of a secret, tried once at each endpoint; its number, if one has acknowledged it.
    pub(crate) async fn write(&mut self, number: usize) -> Option<u64> {
        for _ in 0..self.origins.len() {
            let value = format!(r#"{{"data":{{"value":"{}"}}}}"#, name(number));
            let body = SecretBuf::from_slice(value.as_bytes()).unwrap();
            let target = format!("/v1/secret/data/{}", name(number));
            let request = Request::new(Method::Put, &target)
                .unwrap()
                .with_secret_header("X-Vault-Token", self.token.as_bytes())
                .unwrap()
                .with_body("application/json", body);
            let answer = self.http.send(&self.origins[self.next], request).await;
            if let Ok(answer) = answer
                && answer.status() == 200
            {
                let said: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
                return Some(said["data"]["version"].as_u64().unwrap());
            }
            self.next = (self.next + 1) % self.origins.len();
        }
        None
    }

    /// All secrets once, and what is known about them.
    pub(crate) async fn fill(&mut self) -> Arc<Written> {
        let mut floors = Vec::new();
        for number in 0..NAMES {
            floors.push(AtomicU64::new(self.write(number).await.unwrap()));
        }
        Arc::new(Written {
            floors,
            acknowledged: Mutex::default(),
            stop: AtomicBool::new(false),
        })
    }

    /// Writes some secrets a second until it is stopped, and signals each that was acknowledged.
    pub(crate) async fn run(mut self, resolver: Resolver, written: Arc<Written>) {
        let mut number = 0;
        while !written.stop.load(Ordering::Relaxed) {
            number = (number + 7) % NAMES;
            let began = resolver.clock().now();
            if let Some(version) = self.write(number).await {
                written.acknowledged.lock().unwrap().push(began);
                if is_signalled(number) {
                    resolver.invalidator().invalidate(&name(number)).unwrap();
                    written.floors[number].fetch_max(version, Ordering::SeqCst);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
