//! Tens of thousands of gets under every policy, of a store that changes its mind: each answer is
//! judged by what the store has said by then.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::BreakerConfig;
use secret_resolver::{Error, ErrorKind, Freshness, Moment, Resolver, Secret};

use crate::support::{Say, Store, ms, now, pause, since};

const TTL: Duration = ms(1000);
const STALE: Duration = ms(2500);
/// What a busy machine may add between an answer and the look at the clock after it.
const SLACK: Duration = ms(250);
/// How long after an outage its last error may still be answered: a fetch's whole time, and an open
/// breaker's.
const AFTER: Duration = ms(2500);

fn draw(most: u64) -> u64 {
    RandomState::new().hash_one(0) % most
}

/// When the store was in an outage, and when what was invalidated.
#[derive(Default)]
struct History {
    outages: Vec<(Moment, Option<Moment>)>,
    invalidated: HashMap<String, Moment>,
}

impl History {
    fn outage_between(&self, from: Moment, to: Moment) -> bool {
        let meets = |&(begun, ended): &(Moment, Option<Moment>)| {
            begun <= to && ended.is_none_or(|ended| ended + AFTER >= from)
        };
        self.outages.iter().any(meets)
    }
}

#[derive(Clone)]
struct Bench {
    store: Store,
    fallback: Store,
    resolver: Resolver,
    history: Arc<Mutex<History>>,
    wrong: Arc<Mutex<Vec<String>>>,
    /// Fresh, stale, by fallback, failed.
    seen: Arc<Mutex<[usize; 4]>>,
}

impl Bench {
    fn new() -> Self {
        let (store, fallback) = (Store::new("store"), Store::new("fallback"));
        let breaker = BreakerConfig::default().with_open(ms(200), ms(400));
        let resolver = Resolver::builder(store.clone())
            .with_ttl(TTL)
            .with_deadline(ms(2000))
            .with_breaker(breaker)
            .serve_stale_up_to_for("stale", STALE)
            .serve_stale_up_to_for("both", STALE)
            .dangerous_fallback_to_for("fallback", fallback.clone())
            .dangerous_fallback_to_for("both", fallback.clone())
            .build()
            .unwrap();
        Self {
            store,
            fallback,
            resolver,
            history: Arc::default(),
            wrong: Arc::default(),
            seen: Arc::default(),
        }
    }

    /// Gets a name and judges the answer.
    async fn get(&self, name: &str) {
        let asked = now();
        // What was invalidated before the get began is never answered by it.
        let invalidated = self.history.lock().unwrap().invalidated.get(name).copied();
        let answer = self.resolver.get(name).await;
        let answered = now();
        let (kind, wrong) = match &answer {
            Ok(secret) => self.judge(name, secret, invalidated, asked, answered),
            Err(error) => (3, self.judge_error(error, asked, answered)),
        };
        self.seen.lock().unwrap()[kind] += 1;
        if let Some(wrong) = wrong {
            let wrong = format!("{name}: {wrong}");
            self.wrong.lock().unwrap().push(wrong);
        }
    }

    fn judge(
        &self,
        name: &str,
        secret: &Secret,
        invalidated: Option<Moment>,
        asked: Moment,
        answered: Moment,
    ) -> (usize, Option<String>) {
        let policy = name.split('/').next().unwrap();
        let freshness = secret.answer().freshness();
        let source = match freshness {
            Freshness::Fallback => &self.fallback,
            _ => &self.store,
        };
        let call = source.call_of(secret);
        let age = answered.since(call.sent);
        let outage = self.history.lock().unwrap().outage_between(asked, answered);
        let (kind, longest, allowed) = match freshness {
            Freshness::Fresh => (0, TTL, true),
            Freshness::Stale { .. } => (1, TTL + STALE, policy == "stale" || policy == "both"),
            // Kept for 2 s at most.
            _ => (2, ms(2000), policy == "fallback" || policy == "both"),
        };
        let wrong = if call.name != name {
            Some(format!("the value of {}", call.name))
        } else if invalidated.is_some_and(|moment| call.sent < moment) {
            Some(format!(
                "{freshness:?}, asked for before it was invalidated"
            ))
        } else if !allowed {
            Some(format!("{freshness:?}, which its policy does not allow"))
        } else if kind > 0 && !outage {
            Some(format!("{freshness:?} without an outage"))
        } else if age > longest + SLACK {
            Some(format!("{freshness:?} {age:?} after its request"))
        } else if kind < 2 && self.denied_since(name, call.sent, asked) {
            Some(format!("{freshness:?} after the store had denied it"))
        } else {
            None
        };
        (kind, wrong)
    }

    /// Whether the store has answered to a later request, well before the get, that the name is not
    /// there or not ours.
    fn denied_since(&self, name: &str, sent: Moment, asked: Moment) -> bool {
        let calls = self.store.calls_from(sent);
        calls.iter().any(|call| {
            let denied = |(at, error): (Moment, Option<ErrorKind>)| {
                matches!(error, Some(ErrorKind::NotFound | ErrorKind::Denied)) && at + SLACK < asked
            };
            call.name == name && call.sent > sent && call.answered.is_some_and(denied)
        })
    }

    fn judge_error(&self, error: &Error, asked: Moment, answered: Moment) -> Option<String> {
        let outage = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
        let denied = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Denied);
        let history = self.history.lock().unwrap();
        let right = denied || (outage && history.outage_between(asked, answered));
        (!right).then(|| format!("{error} without an outage"))
    }

    /// What the store says from now on, except that one name of each policy is not there or denied.
    fn say(&self, say: Say) {
        let refused = format!("/{}", draw(25));
        let refusal = [ErrorKind::NotFound, ErrorKind::Denied][usize::from(draw(2) == 0)];
        self.store
            .script(move |name| match name.ends_with(&refused) {
                true => Say::Error(refusal),
                false => say.clone(),
            });
    }

    /// The store changes its mind, and its records: some seconds of health, some of outage.
    async fn change(&self, time: Duration) {
        let begun = now();
        while since(begun) < time {
            let until = now() + ms(1500 + draw(1000));
            while now() < until && since(begun) < time {
                self.say(match draw(3) {
                    // Longer than a refresh has, and far from the 800 ms of an attempt.
                    0 => Say::Value.after(ms(300)),
                    _ => Say::Value.after(ms(draw(20))),
                });
                pause(100 + draw(200)).await;
            }
            self.history.lock().unwrap().outages.push((now(), None));
            let until = now() + ms(2000 + draw(1500));
            while now() < until && since(begun) < time {
                self.say(match draw(3) {
                    0 => Say::Hang,
                    _ => Say::Error(ErrorKind::Unavailable),
                });
                pause(100 + draw(300)).await;
            }
            self.store.says(Say::Value);
            let mut history = self.history.lock().unwrap();
            history.outages.last_mut().unwrap().1 = Some(now());
        }
    }

    async fn invalidate(&self, names: &[String], time: Duration) {
        let begun = now();
        let invalidator = self.resolver.invalidator();
        while since(begun) < time {
            let name = &names[usize::try_from(draw(names.len() as u64)).unwrap()];
            self.store.rotate(name);
            let path = name.split('/').next().unwrap();
            let below: Vec<_> = match draw(40) {
                0 => names.iter().filter(|name| name.starts_with(path)).collect(),
                _ => vec![name],
            };
            // The moment before: what is asked for from here on may be answered.
            let at = now();
            match below.len() {
                1 => invalidator.invalidate(name).unwrap(),
                _ => invalidator.invalidate_prefix(path).unwrap(),
            };
            let note = |name: &String| (name.clone(), at);
            let notes = below.into_iter().map(note);
            self.history.lock().unwrap().invalidated.extend(notes);
            pause(50 + draw(100)).await;
        }
    }
}

#[tokio::test]
async fn every_answer_of_a_flood_is_what_the_store_and_the_policy_allow() {
    let time = Duration::from_secs(14);
    let bench = Bench::new();
    let policies = ["closed", "stale", "fallback", "both"];
    let names = policies
        .iter()
        .flat_map(|policy| (0..25).map(move |n| format!("{policy}/{n}")));
    let names: Arc<Vec<String>> = Arc::new(names.collect());
    let begun = now();
    let readers = (0..40).map(|_| {
        let (bench, names) = (bench.clone(), Arc::clone(&names));
        tokio::spawn(async move {
            while since(begun) < time {
                let name = &names[usize::try_from(draw(names.len() as u64)).unwrap()];
                bench.get(name).await;
                pause(draw(12)).await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    tokio::join!(bench.change(time), bench.invalidate(&names, time));
    for reader in readers {
        reader.await.unwrap();
    }
    let seen = *bench.seen.lock().unwrap();
    let wrong = bench.wrong.lock().unwrap();
    let first: Vec<_> = wrong.iter().take(8).collect();
    let number = wrong.len();
    assert!(
        wrong.is_empty(),
        "{number} of {seen:?} are wrong, such as {first:#?}"
    );
    // Otherwise nothing was shown. How many are stale is chance: a signal just before an outage may leave
    // nothing that could be.
    assert!(seen.iter().sum::<usize>() > 3_000, "{seen:?}");
    assert!(seen[0] > 1000 && seen[2] > 0 && seen[3] > 0, "{seen:?}");
}
