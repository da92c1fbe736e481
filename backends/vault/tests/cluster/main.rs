//! A real cluster of three, under load, while one of its nodes is sick in each way there is, while there is no
//! majority, and after a restore from a backup. A writer knows what it wrote: no get is answered less than what
//! was signalled before it began, or than what was answered before.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(
    clippy::print_stdout,
    reason = "the figures of a run that fails are wanted"
)]

#[path = "../common/mod.rs"]
mod common;
mod load;
mod writer;

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::*;
use load::{Get, Load, failures};
use secret_resolver::{Clock, ErrorKind, Moment, Resolver};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{VaultBackend, VaultTarget};
use test_servers::{AppRole, Cluster, Error};
use writer::{Writer, Written};

/// How long a node is sick, unless the environment says otherwise, in seconds.
const SICK: Duration = Duration::from_millis(6_500);
/// Others take over within this time after a fault begins. All is well within this time after it ends.
const SOON: Duration = Duration::from_secs(2);

/// Runs one test at a time: two would measure each other.
fn alone(test: impl Future<Output = ()>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    runtime().block_on(test);
}

/// A cluster and its secrets.
struct Bench {
    cluster: Cluster,
    role: AppRole,
    written: Arc<Written>,
}

impl Bench {
    async fn start() -> Self {
        let cluster = Cluster::start().unwrap();
        let leader = cluster.wait_until_agreed().unwrap();
        let role = reader(cluster.node(leader), HOUR, HOUR);
        let written = Writer::new(&cluster).fill().await;
        cluster.wait_until_agreed().unwrap();
        Self {
            cluster,
            role,
            written,
        }
    }

    /// A service that asks the nodes in this order, and keeps values for so short a time that about a third of
    /// the gets ask the store.
    fn service(&self, [first, second, third]: [usize; 3]) -> Resolver {
        let origins = self.cluster.origins();
        let origin = |node: usize| Origin::parse(&origins[node]).unwrap();
        let trust = Trust::from_file(self.cluster.ca_file()).unwrap();
        let target = VaultTarget::new(origin(first), trust, approle(&self.role))
            .with_endpoint(origin(second))
            .with_endpoint(origin(third));
        let backend = VaultBackend::builder(target).build().unwrap();
        Resolver::builder(backend)
            .with_ttl(2 * SECOND)
            .build()
            .unwrap()
    }

    /// Reads while `fault` lasts, and a while after `repair`; both know which node led before. The nodes are asked in the
    /// order that `order` makes of that.
    async fn run(
        &mut self,
        what: &str,
        order: impl Fn(usize) -> [usize; 3],
        fault: impl Fn(&mut Cluster, usize) -> Result<(), Error>,
        repair: impl Fn(&mut Cluster, usize) -> Result<(), Error>,
    ) -> Run {
        let leader = self.cluster.wait_until_agreed().unwrap();
        let resolver = self.service(order(leader));
        let now = || resolver.clock().now();
        self.written.stop.store(false, Ordering::Relaxed);
        let load = Load::start(&resolver, Writer::new(&self.cluster), &self.written);
        tokio::time::sleep(SECOND).await;
        let began = now();
        tokio::task::block_in_place(|| fault(&mut self.cluster, leader)).unwrap();
        let there = now();
        tokio::time::sleep(sick()).await;
        let ended = now();
        tokio::task::block_in_place(|| repair(&mut self.cluster, leader)).unwrap();
        let repaired = now();
        tokio::time::sleep(SOON + SECOND).await;
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
            repaired,
            writes: writes.count(),
        };
        println!("{what}:");
        run.show();
        run
    }
}

fn sick() -> Duration {
    let given = std::env::var("SECRET_RESOLVER_SICK_SECONDS").ok();
    given.map_or(SICK, |seconds| {
        Duration::from_secs(seconds.parse().unwrap())
    })
}

/// All gets of a run, and when its fault began, when its repairing began, and when that was done.
struct Run {
    gets: Vec<Get>,
    began: Moment,
    /// When the store could be written again.
    led: Moment,
    ended: Moment,
    repaired: Moment,
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
            ("repairing", self.ended, self.repaired),
            ("back", self.repaired, self.repaired + SOON),
            ("after", self.repaired + SOON, self.repaired + HOUR),
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
    fn saw_only_outages(&self) {
        let outage = |kind: &ErrorKind| kind.permits().counts_for_breaker;
        let failed = self.gets.iter().filter_map(|get| get.failed.as_ref());
        let other: Vec<_> = failed.filter(|(kind, _)| !outage(kind)).collect();
        assert!(other.is_empty(), "{} of them: {:?}", other.len(), other[0]);
    }

    fn none_failed_before(&self) {
        let before = self.gets.iter().filter(|get| get.ended < self.began);
        assert_eq!(failures(before), [], "before");
    }

    fn none_failed(&self, part: &str, from: Moment, to: Moment) {
        assert_eq!(failures(self.between(from, to)), [], "{part}");
    }

    /// What is asked where two of three nodes are well: others take over soon, and no return is noticed. What was
    /// signalled must be answered by the leader, so it waits for one.
    fn two_were_enough(&self) {
        self.saw_only_outages();
        self.none_failed_before();
        let sick = self.between(self.began + SOON, self.repaired);
        let of_leader = |get: &&Get| get.signalled && get.began < self.led + SOON;
        let failed = sick.filter(|get| get.failed.is_some() && !of_leader(get));
        for get in failed.clone() {
            let (after, took) = (get.began.since(self.began), get.ended.since(get.began));
            println!(
                "failed {after:?} after, in {took:?}; signalled: {}",
                get.signalled
            );
        }
        assert_eq!(failures(failed), [], "while it was sick");
        self.none_failed("after", self.repaired, self.repaired + HOUR);
        assert!(self.writes > 0);
    }

    fn was_back_soon(&self) {
        self.saw_only_outages();
        self.none_failed_before();
        self.none_failed("after", self.repaired + SOON, self.repaired + HOUR);
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

fn heal(cluster: &mut Cluster, _: usize) -> Result<(), Error> {
    cluster.heal();
    Ok(())
}

#[test]
fn a_node_that_is_killed_or_sealed_fails_no_get() {
    alone(async {
        let mut bench = Bench::start().await;
        let killed = bench.run(
            "killed",
            leader_last,
            |cluster, leader| {
                cluster.kill(leader);
                Ok(())
            },
            Cluster::start_again,
        );
        killed.await.two_were_enough();
        let sealed = bench.run(
            "sealed",
            leader_first,
            |cluster, leader| cluster.seal(leader),
            |cluster, leader| cluster.unseal(leader),
        );
        sealed.await.two_were_enough();
    });
}

#[test]
fn a_leader_that_steps_down_or_is_frozen_fails_no_get() {
    alone(async {
        let mut bench = Bench::start().await;
        let stepped = bench.run(
            "stepped down",
            leader_first,
            |cluster, _| cluster.step_down(),
            |cluster, _| cluster.wait_until_agreed().map(drop),
        );
        stepped.await.two_were_enough();
        let frozen = bench.run("frozen", leader_first, Cluster::suspend, Cluster::resume);
        frozen.await.two_were_enough();
    });
}

#[test]
fn a_node_that_is_cut_off_fails_no_get_and_answers_nothing_old() {
    alone(async {
        let mut bench = Bench::start().await;
        let partition = |cluster: &mut Cluster, node| {
            cluster.partition(node);
            Ok(())
        };
        let leader = bench.run("the leader, silently", leader_first, partition, heal);
        leader.await.two_were_enough();
        let standby = |leader| leader_last(leader)[0];
        let silent = bench.run(
            "a standby, silently",
            leader_last,
            |cluster, leader| partition(cluster, standby(leader)),
            heal,
        );
        silent.await.two_were_enough();
        let disconnected = bench.run(
            "a standby, and it knows",
            leader_last,
            |cluster, leader| {
                cluster.disconnect(standby(leader));
                Ok(())
            },
            heal,
        );
        disconnected.await.two_were_enough();
    });
}

#[test]
fn without_a_majority_nothing_old_is_answered_and_all_is_well_soon_after() {
    alone(async {
        let mut bench = Bench::start().await;
        let others = |leader| [(leader + 1) % 3, (leader + 2) % 3];
        let one_left = bench.run(
            "two killed",
            leader_first,
            |cluster, leader| {
                for node in others(leader) {
                    cluster.kill(node);
                }
                Ok(())
            },
            |cluster, leader| {
                for node in others(leader) {
                    cluster.start_again(node)?;
                }
                cluster.wait_until_agreed().map(drop)
            },
        );
        one_left.await.was_back_soon();
        let none_left = bench.run(
            "all frozen",
            leader_first,
            |cluster, _| (0..3).try_for_each(|node| cluster.suspend(node)),
            |cluster, _| {
                (0..3).try_for_each(|node| cluster.resume(node))?;
                cluster.wait_for_leader().map(drop)
            },
        );
        none_left.await.was_back_soon();
    });
}

#[test]
fn after_a_restore_from_a_backup_the_lower_versions_are_refused_until_they_are_accepted() {
    alone(async {
        let bench = Bench::start().await;
        let cluster = &bench.cluster;
        let resolver = bench.service(leader_first(cluster.wait_for_leader().unwrap()));
        let name = writer::name(7);
        let backup = tokio::task::block_in_place(|| {
            let snapshot = cluster.snapshot()?;
            assert_eq!(cluster.put(&name, &[("value", "new")])?, 2);
            Ok::<_, Error>(snapshot)
        });
        resolver.invalidator().invalidate(&name).unwrap();
        assert_eq!(text(resolver.get(&name).await), "new");
        tokio::task::block_in_place(|| cluster.restore(&backup.unwrap())).unwrap();
        resolver.invalidator().invalidate(&name).unwrap();
        let refused = resolver.get(&name).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        resolver.invalidator().forget_version(&name).unwrap();
        assert_eq!(text(resolver.get(&name).await), name);
    });
}
