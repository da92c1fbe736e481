//! Fifty tasks that read eight hundred secrets, and what they were answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secret_resolver::{Clock, ErrorKind, Moment, Resolver};
use tokio::task::JoinHandle;

use crate::writer::{NAMES, Written, is_signalled, name};

const TASKS: usize = 50;

/// One get.
pub(crate) struct Get {
    /// Whether changes of the secret are signalled.
    pub(crate) signalled: bool,
    pub(crate) began: Moment,
    pub(crate) ended: Moment,
    /// What it failed with.
    pub(crate) failed: Option<(ErrorKind, String)>,
}

/// The readers at work.
pub(crate) struct Load {
    written: Arc<Written>,
    tasks: Vec<JoinHandle<Vec<Get>>>,
    writer: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(
        resolver: &Resolver,
        writer: crate::writer::Writer,
        written: &Arc<Written>,
    ) -> Self {
        // The highest version that was answered: what begins after that may not be answered a lower one.
        let answered: Arc<Vec<_>> = Arc::new((0..NAMES).map(|_| AtomicU64::new(0)).collect());
        let read = |task| {
            let (resolver, written) = (resolver.clone(), Arc::clone(written));
            tokio::spawn(read(task, resolver, written, Arc::clone(&answered)))
        };
        Self {
            written: Arc::clone(written),
            tasks: (0..TASKS).map(read).collect(),
            writer: tokio::spawn(writer.run(resolver.clone(), Arc::clone(written))),
        }
    }

    /// Ends it: all gets, in the order of their ends.
    pub(crate) async fn stop(self) -> Vec<Get> {
        self.written.stop.store(true, Ordering::Relaxed);
        let mut gets = Vec::new();
        for task in self.tasks {
            // A task that got a wrong answer has panicked.
            gets.extend(task.await.unwrap());
        }
        self.writer.await.unwrap();
        gets.sort_by_key(|get| get.ended);
        gets
    }
}

async fn read(
    task: usize,
    resolver: Resolver,
    written: Arc<Written>,
    answered: Arc<Vec<AtomicU64>>,
) -> Vec<Get> {
    let clock = Arc::clone(resolver.clock());
    let mut gets = Vec::new();
    let mut number = task;
    while !written.stop.load(Ordering::Relaxed) {
        // Each task has its own order.
        number = (number + 2 * task + 1) % NAMES;
        let name = name(number);
        let signalled = written.floors[number].load(Ordering::SeqCst);
        let floor = signalled.max(answered[number].load(Ordering::SeqCst));
        let began = clock.now();
        let failed = match resolver.get(&name).await {
            Ok(secret) => {
                let version = secret.version().as_number().unwrap();
                assert!(
                    version >= floor,
                    "{name} went back to {version} after {floor} ({signalled} was signalled)"
                );
                answered[number].fetch_max(version, Ordering::SeqCst);
                assert_eq!(secret.expose_str().unwrap(), name);
                None
            }
            Err(error) => Some((error.kind(), error.to_string())),
        };
        gets.push(Get {
            signalled: is_signalled(number),
            began,
            ended: clock.now(),
            failed,
        });
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    gets
}

/// How often each failure was seen.
pub(crate) fn failures<'a>(gets: impl IntoIterator<Item = &'a Get>) -> Vec<(usize, String)> {
    let mut failures: Vec<(usize, String)> = Vec::new();
    for text in gets
        .into_iter()
        .filter_map(|get| Some(&get.failed.as_ref()?.1))
    {
        // Without the name.
        let text = match text.split_once(": app/") {
            Some((kind, rest)) => format!(
                "{kind}{}",
                rest.trim_start_matches(|c: char| c.is_ascii_digit())
            ),
            None => text.clone(),
        };
        match failures.iter_mut().find(|(_, known)| *known == text) {
            Some((count, _)) => *count += 1,
            None => failures.push((1, text)),
        }
    }
    failures
}
