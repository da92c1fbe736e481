//! A real cluster of three, under load, while one of its nodes is sick in each way there is, while there is no
//! majority, and after a restore from a backup. A writer knows what it wrote: no get is answered less than what
//! was signalled before it began, or than what was answered before.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../common/mod.rs"]
mod common;
mod load;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use load::{Get, Load, failures};
use secret_resolver::{Clock, ErrorKind, Moment, Resolver, ResolverBuilder};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{VaultBackend, VaultTarget};
use test_servers::{Cluster, Error};
use writer::{Writer, Written};

/// How long a node is sick, unless the environment says otherwise, in seconds.
const SICK: u64 = 8;
/// Within this time of a fault's begin others take over, and of its end all is well.
const SOON: Duration = Duration::from_secs(2);

/// A cluster, and a service that reads its secrets and keeps them for a moment.
struct Bench {
    cluster: Cluster,
    resolver: Resolver,
    written: Arc<Written>,
}

impl Bench {
    /// The service asks the endpoints in this order, as `order` makes it of the leader's number.
    async fn start(order: impl Fn(usize) -> [usize; 3]) -> Self {
        Self::start_with(order, |target| target, |builder| builder).await
    }

    async fn start_with(
        order: impl Fn(usize) -> [usize; 3],
        target: impl Fn(VaultTarget) -> VaultTarget,
        change: impl Fn(ResolverBuilder) -> ResolverBuilder,
    ) -> Self {
        let cluster = Cluster::start().unwrap();
        let leader = cluster.wait_until_agreed().unwrap();
        let role = reader(cluster.node(leader), HOUR, HOUR);
        let written = Writer::new(&cluster).fill().await;
        cluster.wait_until_agreed().unwrap();
        let origins = cluster
            .origins()
            .map(|origin| Origin::parse(&origin).unwrap());
        let [first, second, third] = order(leader).map(|node| origins[node].clone());
        let trust = Trust::from_file(cluster.ca_file()).unwrap();
        let of = VaultTarget::new(first, trust, approle(&role))
            .with_endpoint(second)
            .with_endpoint(third);
        let backend = VaultBackend::builder(target(of)).build().unwrap();
        // So short that about half of the gets ask the store.
        let builder = Resolver::builder(backend).with_ttl(SECOND);
        Self {
            resolver: change(builder).build().unwrap(),
            cluster,
            written,
        }
    }

    fn now(&self) -> Moment {
        self.resolver.clock().now()
    }

    /// Reads while `fault` lasts, and a while after `mend`.
    async fn run(
        &mut self,
        fault: impl Fn(&mut Cluster) -> Result<(), Error>,
        mend: impl Fn(&mut Cluster) -> Result<(), Error>,
    ) -> Run {
        let load = Load::start(&self.resolver, Writer::new(&self.cluster), &self.written);
        tokio::time::sleep(SECOND).await;
        let began = self.now();
        tokio::task::block_in_place(|| fault(&mut self.cluster)).unwrap();
        let there = self.now();
        tokio::time::sleep(sick()).await;
        let ended = self.now();
        tokio::task::block_in_place(|| mend(&mut self.cluster)).unwrap();
        let mended = self.now();
        tokio::time::sleep(SOON + 2 * SECOND).await;
        let gets = load.stop().await;
        let acknowledged = std::mem::take(&mut *self.written.acknowledged.lock().unwrap());
        let led = acknowledged.iter().copied().find(|at| *at > there);
        let writes = acknowledged
            .iter()
            .filter(|at| **at > there && **at < ended);
        let run = Run {
            gets,
            began,
            led: led.unwrap(),
            ended,
            mended,
            writes: writes.count(),
        };
        run.show();
        run
    }
}

fn sick() -> Duration {
    let given = std::env::var("SECRET_RESOLVER_SICK_SECONDS").ok();
    Duration::from_secs(given.map_or(SICK, |seconds| seconds.parse().unwrap()))
}

/// All gets of a run, and when its fault began, when its mending began, and when that was done.
struct Run {
    gets: Vec<Get>,
    began: Moment,
    /// When the store could be written again.
    led: Moment,
    ended: Moment,
    mended: Moment,
    /// How many writes there were while it was sick.
    writes: usize,
}

impl Run {
    /// The gets that began in this time.
    fn between(&self, from: Moment, to: Moment) -> impl Iterator<Item = &Get> + Clone {
        let within = move |get: &&Get| get.began >= from && get.began < to;
        self.gets.iter().filter(within)
    }

    fn show(&self) {
        let parts = [
            ("before", Moment::ZERO, self.began),
            ("at first", self.began, self.began + SOON),
            ("sick", self.began + SOON, self.ended),
            ("mending", self.ended, self.mended),
            ("back", self.mended, self.mended + SOON),
            ("after", self.mended + SOON, self.mended + HOUR),
        ];
        let led = self.led.since(self.began);
        println!(
            "{} writes; it had a leader again after {led:?}",
            self.writes
        );
        for (part, from, to) in parts {
            let gets = self.between(from, to);
            let slowest = gets.clone().map(|get| get.ended.since(get.began)).max();
            println!(
                "{part}: {} gets, the slowest took {slowest:?}, failed: {:?}",
                gets.clone().count(),
                failures(gets)
            );
        }
    }

    /// Nothing but an outage was ever seen.
    fn saw_outages_alone(&self) {
        let outage = |kind: &ErrorKind| kind.permits().counts_for_breaker;
        let failed = self.gets.iter().filter_map(|get| get.failed.as_ref());
        let other: Vec<_> = failed.filter(|(kind, _)| !outage(kind)).collect();
        assert!(other.is_empty(), "{} of them: {:?}", other.len(), other[0]);
    }

    fn none_failed(&self, part: &str, from: Moment, to: Moment) {
        assert_eq!(failures(self.between(from, to)), [], "{part}");
    }

    /// What is asked where two of three nodes are well: others take over soon, and no return is noticed. What was
    /// signalled is the leader's to answer, so it waits for one.
    fn two_were_enough(&self) {
        self.saw_outages_alone();
        self.none_failed("before", Moment::ZERO, self.began);
        let sick = self.between(self.began + SOON, self.mended);
        let of_leader = |get: &&Get| get.signalled && get.began < self.led + SECOND;
        assert_eq!(
            failures(sick.filter(|get| !of_leader(get))),
            [],
            "while it was sick"
        );
        self.none_failed("after", self.mended, self.mended + HOUR);
        assert!(self.writes > 0);
    }

    fn was_back_soon(&self) {
        self.saw_outages_alone();
        self.none_failed("before", Moment::ZERO, self.began);
        self.none_failed("after", self.mended + SOON, self.mended + HOUR);
    }
}

/// The leader is the first that is asked.
fn leader_first(leader: usize) -> [usize; 3] {
    [leader, (leader + 1) % 3, (leader + 2) % 3]
}

/// A standby is the first that is asked, and the leader the last.
fn leader_last(leader: usize) -> [usize; 3] {
    [(leader + 1) % 3, (leader + 2) % 3, leader]
}

#[test]
fn a_node_that_is_killed_and_comes_back_fails_no_get() {
    block_on(async {
        for order in [leader_first, leader_last] {
            let mut bench = Bench::start(order).await;
            let node = bench.cluster.leader().unwrap();
            let run = bench.run(
                |cluster| {
                    cluster.kill(node);
                    Ok(())
                },
                |cluster| cluster.start_again(node),
            );
            run.await.two_were_enough();
        }
    });
}

#[test]
fn a_node_that_is_sealed_and_unsealed_fails_no_get() {
    block_on(async {
        let mut bench = Bench::start(leader_first).await;
        let node = bench.cluster.leader().unwrap();
        let run = bench.run(|cluster| cluster.seal(node), |cluster| cluster.unseal(node));
        run.await.two_were_enough();
    });
}

#[test]
fn leaders_that_step_down_fail_no_get() {
    block_on(async {
        let mut bench = Bench::start(leader_first).await;
        let step_down = |cluster: &mut Cluster| {
            cluster.wait_for_leader()?;
            cluster.step_down()
        };
        bench.run(step_down, step_down).await.two_were_enough();
    });
}

#[test]
fn a_node_that_is_frozen_fails_no_get() {
    block_on(async {
        let mut bench = Bench::start(leader_first).await;
        let node = bench.cluster.leader().unwrap();
        let run = bench.run(
            |cluster| cluster.suspend(node),
            |cluster| cluster.resume(node),
        );
        run.await.two_were_enough();
    });
}

#[test]
fn a_leader_that_is_cut_off_fails_no_get_and_tells_nothing_old() {
    block_on(async {
        let mut bench = Bench::start(leader_first).await;
        let node = bench.cluster.leader().unwrap();
        let run = bench.run(
            |cluster| {
                cluster.partition(node);
                Ok(())
            },
            |cluster| {
                cluster.heal();
                Ok(())
            },
        );
        run.await.two_were_enough();
    });
}

/// The first endpoint is a standby that is cut off by `cut`.
fn behind(cut: impl Fn(&Cluster, usize)) {
    block_on(async {
        let mut bench = Bench::start(leader_last).await;
        let leader = bench.cluster.leader().unwrap();
        let node = leader_last(leader)[0];
        let run = bench.run(
            |cluster| {
                cut(cluster, node);
                Ok(())
            },
            |cluster| {
                cluster.heal();
                Ok(())
            },
        );
        run.await.two_were_enough();
    });
}

#[test]
fn a_standby_that_is_disconnected_fails_no_get_and_tells_nothing_old() {
    behind(Cluster::disconnect);
}

#[test]
fn a_standby_whose_network_is_silent_fails_no_get_and_tells_nothing_old() {
    behind(Cluster::partition);
}

#[test]
fn without_a_majority_nothing_old_is_told_and_all_is_well_soon_after() {
    block_on(async {
        let mut bench = Bench::start(leader_first).await;
        let leader = bench.cluster.leader().unwrap();
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        let run = bench.run(
            |cluster| {
                for node in others {
                    cluster.kill(node);
                }
                Ok(())
            },
            |cluster| {
                others
                    .into_iter()
                    .try_for_each(|node| cluster.start_again(node))?;
                cluster.wait_until_agreed().map(drop)
            },
        );
        run.await.was_back_soon();
    });
}

#[test]
fn while_all_are_frozen_nothing_is_told_and_all_is_well_soon_after() {
    block_on(async {
        let mut bench = Bench::start(leader_first).await;
        let run = bench.run(
            |cluster| (0..3).try_for_each(|node| cluster.suspend(node)),
            |cluster| {
                (0..3).try_for_each(|node| cluster.resume(node))?;
                cluster.wait_for_leader().map(drop)
            },
        );
        run.await.was_back_soon();
    });
}

#[test]
fn after_a_restore_from_a_backup_the_lower_versions_are_refused_until_they_are_accepted() {
    block_on(async {
        let bench = Bench::start(leader_first).await;
        let Bench {
            cluster, resolver, ..
        } = &bench;
        let name = writer::name(7);
        let kind = async || resolver.get(&name).await.err().map(|error| error.kind());
        let restored = tokio::task::block_in_place(|| {
            let snapshot = cluster.snapshot()?;
            assert_eq!(cluster.put(&name, &[("value", "new")])?, 2);
            Ok::<_, Error>(snapshot)
        });
        resolver.invalidator().invalidate(&name).unwrap();
        assert_eq!(text(resolver.get(&name).await), "new");
        tokio::task::block_in_place(|| cluster.restore(&restored.unwrap())).unwrap();
        // It is not held any more; and it is the same at every endpoint.
        resolver.invalidator().invalidate(&name).unwrap();
        assert_eq!(kind().await, Some(ErrorKind::Refused));
        resolver.invalidator().forget_version(&name).unwrap();
        assert_eq!(text(resolver.get(&name).await), name);
    });
}
