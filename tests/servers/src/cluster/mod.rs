//! A cluster of three real OpenBao nodes on loopback, with raft storage: for what only several nodes can do, such as electing another
//! leader, lagging behind it, or being cut off from the others. It owns how the nodes are started, joined and parted; what a single
//! node can do is in `OpenBao`, and each node is one.

mod nodes;
mod relay;

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use self::nodes::View;
use self::relay::{Apart, Relay};
use crate::{Error, OpenBao};

/// How many nodes there are: the fewest that keep a majority when one is lost.
const NODES: usize = 3;
/// An election takes about two seconds here, and one may fail.
const LIMIT: Duration = Duration::from_secs(30);

/// Three nodes of one store, ended when this is dropped. A node is named by its index: 0, 1 or 2.
///
/// # Example
/// ```
/// let mut cluster = test_servers::Cluster::start()?;
/// cluster.put("app/db", &[("password", "correct horse")])?;
/// let leader = cluster.wait_for_leader()?;
/// cluster.kill(leader);
/// assert_ne!(cluster.wait_for_leader()?, leader);
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct Cluster {
    nodes: [OpenBao; NODES],
    /// Killed or frozen: nobody waits for the answer of such a node.
    away: [bool; NODES],
    relay: Relay,
}

/// All that a cluster's store had in it at one moment.
#[derive(Debug)]
pub struct Snapshot(NamedTempFile);

impl Cluster {
    /// Starts three nodes and returns once all of them are unsealed, vote, and answer for the KV v2 store at `secret/`.
    ///
    /// # Errors
    /// The program is not installed, or a node ended or did not answer within 30 s; the error ends with the node's last words.
    pub fn start() -> Result<Self, Error> {
        nodes::start()
    }

    /// A node by itself, with all that root can ask of it. It hands writes on to the leader.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn node(&self, node: usize) -> &OpenBao {
        &self.nodes[node]
    }

    /// `https://127.0.0.1:PORT` of each node.
    #[must_use]
    pub fn origins(&self) -> [String; NODES] {
        self.nodes.each_ref().map(OpenBao::origin)
    }

    /// The PEM file of the CA that signed the certificates of all nodes. It goes with the cluster.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        let [first, ..] = &self.nodes;
        first.ca_file()
    }

    /// The root token, the same at every node.
    #[must_use]
    pub fn root_token(&self) -> &str {
        let [first, ..] = &self.nodes;
        first.root_token()
    }

    /// The active node: the one that says so and that a majority names. `None` while there is none, as in an election.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        Self::leader_of(&self.views())
    }

    /// Waits until there is an active node, and says which.
    ///
    /// # Errors
    /// There was none within 30 s.
    pub fn wait_for_leader(&self) -> Result<usize, Error> {
        wait_for("an active node", || self.leader())
    }

    /// Waits until all three nodes name the same active one and have all that any of them had at the beginning, and says which leads.
    ///
    /// # Errors
    /// They did not within 30 s.
    pub fn wait_until_agreed(&self) -> Result<usize, Error> {
        // What a node has applied, a majority has written; what it only takes for written may be lost in an election.
        let goal = self.views().iter().flatten().map(|view| view.applied).max();
        wait_for("all nodes to agree", || {
            let views = self.views();
            let leader = Self::leader_of(&views)?;
            let origin = self.nodes.get(leader)?.origin();
            let agrees = |view: &Option<View>| {
                let view = view.as_ref();
                view.is_some_and(|view| view.leader == origin && Some(view.applied) >= goal)
            };
            views.iter().all(agrees).then_some(leader)
        })
    }

    /// A node that is not the active one.
    ///
    /// # Errors
    /// There was no active one within 30 s.
    pub fn standby(&self) -> Result<usize, Error> {
        Ok((self.wait_for_leader()? + 1) % NODES)
    }

    /// Writes a new version of a secret at the active node, as [`OpenBao::put`], and returns its number. It is tried once.
    ///
    /// # Errors
    /// There is no active node, or it did not acknowledge the write, which may or may not have been done then.
    pub fn put(&self, path: &str, fields: &[(&str, &str)]) -> Result<u64, Error> {
        self.active()?.put(path, fields)
    }

    /// Kills a node; when this returns its ports refuse connections.
    ///
    /// # Panics
    /// There is no such node.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].stop();
        self.away[node] = true;
    }

    /// Starts a killed node again, with its data and at its ports, and returns once it is unsealed, answers, and names a leader where a
    /// majority runs. Without a majority it answers with what it has.
    ///
    /// # Errors
    /// As [`Cluster::start`]; somebody else has the port by now.
    ///
    /// # Panics
    /// There is no such node.
    pub fn start_again(&mut self, node: usize) -> Result<(), Error> {
        let server = &mut self.nodes[node];
        server.spawn_again()?;
        self.relay.runs_as(node, server.pid());
        let unsealed = server.until(|server| server.unseal())?;
        if unsealed.is_none() || !server.wait_until_ready()? {
            return Err(Error::new("the node's port was taken while it was stopped"));
        }
        self.away[node] = false;
        match self.away.iter().filter(|away| !**away).count() * 2 > NODES {
            true => self.wait_until_joined(node),
            false => Ok(()),
        }
    }

    /// Freezes a node: its ports accept connections and nobody answers.
    ///
    /// # Errors
    /// The node has ended.
    ///
    /// # Panics
    /// There is no such node.
    pub fn suspend(&mut self, node: usize) -> Result<(), Error> {
        self.nodes[node].suspend()?;
        self.away[node] = true;
        Ok(())
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// The node has ended.
    ///
    /// # Panics
    /// There is no such node.
    pub fn resume(&mut self, node: usize) -> Result<(), Error> {
        self.nodes[node].resume()?;
        self.away[node] = false;
        Ok(())
    }

    /// Seals a node: it keeps answering, with 503. Where it was the active one, the others elect another.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    ///
    /// # Panics
    /// There is no such node.
    pub fn seal(&self, node: usize) -> Result<(), Error> {
        // A node refuses for a moment when its leader has just changed.
        let mut refusal = None;
        let sealed = wait_for("a node to seal itself", || {
            refusal = self.nodes[node].seal().err();
            refusal.is_none().then_some(())
        });
        sealed.map_err(|timeout| refusal.unwrap_or(timeout))
    }

    /// Opens a sealed node again, and returns once it names a leader.
    ///
    /// # Errors
    /// As [`OpenBao::run`]; it names none within 30 s.
    ///
    /// # Panics
    /// There is no such node.
    pub fn unseal(&self, node: usize) -> Result<(), Error> {
        self.nodes[node].unseal()?;
        self.wait_until_joined(node)
    }

    /// Makes the active node give up its place, and returns at once: the others elect another one, or itself again.
    ///
    /// # Errors
    /// There is no active node, or it refused.
    pub fn step_down(&self) -> Result<(), Error> {
        self.active()?.run(&["operator", "step-down"]).map(drop)
    }

    /// From now on this node and the two others cannot reach each other: bytes between them go no further, as in a network that
    /// drops packets. Clients still reach all three.
    pub fn partition(&self, node: usize) {
        self.relay.set_apart(node, Apart::Silent);
    }

    /// As [`Cluster::partition`], in a network that says so: the connections between them are closed, and new ones are closed at once.
    pub fn disconnect(&self, node: usize) {
        self.relay.set_apart(node, Apart::Closed);
    }

    /// All nodes reach each other again. Bytes that were held up by [`Cluster::partition`] arrive now.
    pub fn heal(&self) {
        self.relay.join_all();
    }

    /// What the store has now, by the active node.
    ///
    /// # Errors
    /// As [`OpenBao::run`]; there is no active node.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let file = NamedTempFile::new().map_err(Error::during("making a file for a snapshot"))?;
        let path = file.path().display().to_string();
        self.active()?
            .run(&["operator", "raft", "snapshot", "save", &path])?;
        Ok(Snapshot(file))
    }

    /// Makes the store what it was at the snapshot's moment, as an operator does with a backup, and returns once all nodes agree on a
    /// leader again and answer.
    ///
    /// # Errors
    /// As [`OpenBao::run`]; there is no active node.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let path = snapshot.0.path().display().to_string();
        self.active()?
            .run(&["operator", "raft", "snapshot", "restore", "-force", &path])?;
        self.wait_until_agreed().map(drop)
    }

    fn active(&self) -> Result<&OpenBao, Error> {
        self.leader()
            .and_then(|leader| self.nodes.get(leader))
            .ok_or_else(|| Error::new("the cluster has no active node"))
    }

    fn wait_until_joined(&self, node: usize) -> Result<(), Error> {
        wait_for("a node to name a leader", || {
            let view = self.views().into_iter().nth(node).flatten()?;
            (!view.leader.is_empty()).then_some(())
        })
    }

    fn leader_of(views: &[Option<View>; NODES]) -> Option<usize> {
        // A node that is cut off may say for a while that it still leads.
        (0..NODES).find(|node| {
            let own = views.get(*node).and_then(Option::as_ref);
            own.is_some_and(|own| {
                let votes = views.iter().flatten();
                own.leads && votes.filter(|view| view.leader == own.leader).count() * 2 > NODES
            })
        })
    }

    /// What each node says about the cluster; nothing when it does not answer.
    fn views(&self) -> [Option<View>; NODES] {
        let ask = |node: usize| {
            let away = self.away.get(node) == Some(&true);
            let node = self.nodes.get(node).filter(|_| !away)?;
            nodes::view(node)
        };
        thread::scope(|scope| {
            [0, 1, 2]
                .map(|node| scope.spawn(move || ask(node)))
                .map(|asked| asked.join().ok().flatten())
        })
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it waits for other processes, which no test's clock can steer"
)]
fn wait_for<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> Result<T, Error> {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        if let Some(found) = step() {
            return Ok(found);
        }
        // Asking takes three processes, and the nodes then wait for their work.
        thread::sleep(Duration::from_millis(100));
    }
    Err(Error::new(format!(
        "waited {} s for {what}",
        LIMIT.as_secs()
    )))
}
