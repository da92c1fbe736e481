//! The start of a cluster's nodes: their files, the first one's store, and how the others join it.

use std::path::Path;
use std::thread;

use super::relay::Relay;
use super::{Cluster, NODES};
use crate::durable::{cluster_address, initialize, spawn_with_raft};
use crate::openbao::free_port;
use crate::{Error, OpenBao, TestCa, Validity, tools};

const ATTEMPTS: usize = 5;

pub(super) fn start() -> Result<Cluster, Error> {
    let program = tools::bao()?;
    for _ in 0..ATTEMPTS {
        if let Some(cluster) = start_once(&program)? {
            return Ok(cluster);
        }
    }
    Err(Error::new(format!(
        "the cluster found a port taken {ATTEMPTS} times"
    )))
}

/// A node takes its port and the next one.
fn free_ports() -> Result<[u16; NODES], Error> {
    loop {
        let ports @ [one, two, three] = [free_port()?, free_port()?, free_port()?];
        let apart = [(one, two), (one, three), (two, three)];
        if apart.iter().all(|(a, b)| a.abs_diff(*b) > 1) {
            return Ok(ports);
        }
    }
}

/// What a node says about its cluster.
#[derive(Debug)]
pub(super) struct View {
    /// Whether it is the active one.
    pub(super) leads: bool,
    /// The origin of the one that it takes for the active one; empty when it knows none.
    pub(super) leader: String,
    /// How much of the log has reached its own store.
    pub(super) applied: u64,
}

/// `None` when the node does not answer or is sealed.
pub(super) fn view(node: &OpenBao) -> Option<View> {
    let status = node.run(&["status", "-format=json"]).ok()?;
    let status: serde_json::Value = serde_json::from_str(&status).ok()?;
    Some(View {
        leads: status["is_self"] == true,
        leader: status["leader_address"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        applied: status["raft_applied_index"].as_u64().unwrap_or_default(),
    })
}

/// `None` when somebody else has one of the ports.
fn start_once(program: &Path) -> Result<Option<Cluster>, Error> {
    let ca = TestCa::new(Validity::CURRENT)?;
    let (listeners, relayed) = Relay::bind()?;
    // After the relay has its own, which could be one of these.
    let ports = free_ports()?;
    let [one, two, three] = ports;
    let [to_one, to_two, to_three] = relayed;
    let nodes = [
        spawn_with_raft(&ca, "one", (one, to_one), program, None)?,
        spawn_with_raft(&ca, "two", (two, to_two), program, None)?,
        spawn_with_raft(&ca, "three", (three, to_three), program, None)?,
    ];
    let pids = nodes.each_ref().map(OpenBao::pid);
    let relay = Relay::serve(listeners, relayed, ports.map(cluster_address), pids);
    let away = [false; NODES];
    let mut cluster = Cluster { nodes, away, relay };
    let [first, second, third] = &mut cluster.nodes;
    let Some(unseal_key) = initialize(first)? else {
        return Ok(None);
    };
    // A node that joins gets its vote only after ten seconds otherwise.
    let autopilot = [
        "operator",
        "raft",
        "autopilot",
        "set-config",
        "-server-stabilization-time=0s",
    ];
    if first.until(|first| first.run(&autopilot))?.is_none() {
        return Ok(None);
    }
    let origin = first.origin();
    let ready = thread::scope(|scope| {
        let others = [second, third].map(|other| {
            other.initialized(first.root_token().to_owned(), unseal_key.clone());
            scope.spawn(|| join(other, &origin))
        });
        first.run(&["secrets", "enable", "-path=secret", "-version=2", "kv"])?;
        let mut ready = vec![first.wait_until_ready()?];
        for other in others {
            ready.push(
                other
                    .join()
                    .map_err(|_| Error::new("joining a node panicked"))??,
            );
        }
        Ok::<_, Error>(ready)
    })?;
    if ready.contains(&false) {
        return Ok(None);
    }
    cluster.wait_until_agreed()?;
    Ok(Some(cluster))
}

/// `false` when somebody else has the port.
fn join(node: &mut OpenBao, first: &str) -> Result<bool, Error> {
    let ca = format!("-leader-ca-cert=@{}", node.ca_file().display());
    let join = ["operator", "raft", "join", &ca, first];
    let joined = node.until(|node| node.run(&join))?;
    let unsealed = joined.is_some() && node.until(|node| node.unseal())?.is_some();
    Ok(unsealed && node.wait_until_ready()?)
}
