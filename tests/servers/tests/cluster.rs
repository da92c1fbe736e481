//! Three real nodes: that they are one store, and that each way to lose one of them does what it says. Every start takes seconds, so
//! a test checks more than one thing.

use test_servers::{Cluster, Error};

/// How often to ask: ten seconds at least, since each question is a process.
const PATIENCE: usize = 100;

/// What a node answers for the one value that these tests write.
fn value_at(cluster: &Cluster, node: usize) -> Result<String, Error> {
    let get = ["kv", "get", "-mount=secret", "-field=value", "app"];
    cluster.node(node).run(&get)
}

/// A standby applies what the leader wrote a moment later.
fn wait_for_value(cluster: &Cluster, node: usize, value: &str) {
    for _ in 0..PATIENCE {
        if value_at(cluster, node).is_ok_and(|found| found == value) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("node {node} does not come to have {value}");
}

#[test]
fn three_nodes_are_one_store_and_lead_by_turns() -> Result<(), Error> {
    let mut cluster = Cluster::start()?;
    let leader = cluster.wait_until_agreed()?;
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(cluster.put("app", &[("value", "one")])?, 1);
    for node in [0, 1, 2] {
        wait_for_value(&cluster, node, "one");
        assert_eq!(cluster.node(node).origin(), cluster.origins()[node]);
    }

    // A write at a standby is done by the leader.
    let standby = cluster.standby()?;
    assert_ne!(standby, leader);
    assert_eq!(cluster.node(standby).put("app", &[("value", "two")])?, 2);
    wait_for_value(&cluster, leader, "two");

    cluster.step_down()?;
    let next = cluster.wait_for_leader()?;
    assert_ne!(next, leader);

    cluster.wait_until_agreed()?;
    cluster.suspend(next)?;
    let next_but_one = cluster.wait_for_leader()?;
    assert_ne!(next_but_one, next);
    cluster.resume(next)?;
    assert_ne!(cluster.wait_until_agreed()?, next);

    cluster.seal(next)?;
    assert!(value_at(&cluster, next).is_err());
    cluster.unseal(next)?;
    wait_for_value(&cluster, next, "two");
    Ok(())
}

#[test]
fn a_node_that_is_cut_off_has_old_values_and_neither_leads_nor_writes_until_all_is_healed()
-> Result<(), Error> {
    let cluster = Cluster::start()?;
    let old = cluster.wait_until_agreed()?;
    cluster.put("app", &[("value", "one")])?;

    cluster.partition(old);
    // Until its lease has run out, the old one still leads.
    let leaders = (0..PATIENCE).map(|_| cluster.wait_for_leader());
    let new = leaders
        .filter_map(Result::ok)
        .find(|leader| *leader != old)
        .expect("another node leads");
    cluster.put("app", &[("value", "two")])?;
    assert_eq!(value_at(&cluster, old)?, "one");
    assert!(cluster.node(old).put("app", &[("value", "lost")]).is_err());
    cluster.heal();
    assert_eq!(cluster.wait_until_agreed()?, new);
    assert_eq!(value_at(&cluster, old)?, "two");

    cluster.disconnect(old);
    cluster.put("app", &[("value", "three")])?;
    assert_eq!(value_at(&cluster, old)?, "two");
    cluster.heal();
    wait_for_value(&cluster, old, "three");
    Ok(())
}

#[test]
fn a_killed_node_comes_back_with_what_it_missed_and_a_restored_store_forgets() -> Result<(), Error>
{
    let mut cluster = Cluster::start()?;
    let killed = cluster.wait_until_agreed()?;
    cluster.put("app", &[("value", "one")])?;
    cluster.kill(killed);
    assert!(value_at(&cluster, killed).is_err());
    assert_ne!(cluster.wait_for_leader()?, killed);
    assert_eq!(cluster.put("app", &[("value", "two")])?, 2);
    let backup = cluster.snapshot()?;
    cluster.start_again(killed)?;
    wait_for_value(&cluster, killed, "two");

    assert_eq!(cluster.put("app", &[("value", "three")])?, 3);
    cluster.restore(&backup)?;
    for node in [0, 1, 2] {
        wait_for_value(&cluster, node, "two");
    }
    assert_eq!(cluster.put("app", &[("value", "another three")])?, 3);
    Ok(())
}
