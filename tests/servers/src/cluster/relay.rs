//! What lies between the nodes of a cluster: each node gives the others a port of this relay as its own, so that all that they say to
//! each other passes here and can be held up. Clients do not come this way.
//!
//! The kernel's tables show which node connects: the socket at the other end belongs to one of the nodes' processes. A connection
//! of anybody else is closed.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::NODES;
use crate::Error;

/// The relay's ports and its threads, all ended when this is dropped.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    addresses: [SocketAddr; NODES],
}

/// What becomes of the traffic of a node that is apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// Bytes are accepted and go no further, as in a network that drops packets. They go on when the parts are joined again.
    Silent,
    /// Connections are closed, old ones and new ones.
    Closed,
}

impl Relay {
    /// Binds an address for each node; nothing passes before [`Relay::serve`].
    pub(crate) fn bind() -> Result<([TcpListener; NODES], [SocketAddr; NODES]), Error> {
        let bind = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = listener.local_addr()?;
            std::io::Result::Ok((listener, address))
        };
        let bound = || bind().map_err(Error::during("binding a port for the relay"));
        let [(first, one), (second, two), (third, three)] = [bound()?, bound()?, bound()?];
        Ok(([first, second, third], [one, two, three]))
    }

    /// Passes on what comes to these ports to the nodes' own `targets`.
    pub(crate) fn serve(
        listeners: [TcpListener; NODES],
        addresses: [SocketAddr; NODES],
        targets: [SocketAddr; NODES],
        pids: [u32; NODES],
    ) -> Self {
        let state = State {
            pids,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        for (to, (listener, target)) in listeners.into_iter().zip(targets).enumerate() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&shared, &listener, to, target));
        }
        Self { shared, addresses }
    }

    /// A node runs as another process from now on.
    pub(crate) fn runs_as(&self, node: usize, pid: u32) {
        if let Some(known) = self.shared.lock().pids.get_mut(node) {
            *known = pid;
        }
    }

    pub(crate) fn set_apart(&self, node: usize, how: Apart) {
        let mut state = self.shared.lock();
        if let Some(apart) = state.apart.get_mut(node) {
            *apart = Some(how);
        }
        if how == Apart::Closed {
            for link in state.links.values() {
                if link.ends.contains(&node) {
                    link.close();
                }
            }
        }
        self.shared.changed.notify_all();
    }

    pub(crate) fn join_all(&self) {
        self.shared.lock().apart = Default::default();
        self.shared.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        for link in state.links.values() {
            link.close();
        }
        drop(state);
        self.shared.changed.notify_all();
        for address in self.addresses {
            // Wakes the thread that accepts there, which then sees the end.
            let _ = TcpStream::connect(address);
        }
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pids: [u32; NODES],
    apart: [Option<Apart>; NODES],
    links: HashMap<u64, Link>,
    next_link: u64,
    ended: bool,
}

/// Two connections that are passed on to each other.
struct Link {
    ends: [usize; 2],
    sockets: [TcpStream; 2],
}

impl Link {
    fn close(&self) {
        for socket in &self.sockets {
            // It may be closed already, which is what is wanted.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while they hold it in a way that leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while bytes between these nodes go no further; `false` when they never will.
    fn may_pass(&self, ends: [usize; 2]) -> bool {
        let mut state = self.lock();
        loop {
            if state.ended {
                return false;
            }
            match state.between(ends) {
                None => return true,
                Some(Apart::Closed) => return false,
                Some(Apart::Silent) => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl State {
    fn between(&self, ends: [usize; 2]) -> Option<Apart> {
        let apart = ends.map(|node| self.apart.get(node).copied().flatten());
        match apart {
            [Some(Apart::Closed), _] | [_, Some(Apart::Closed)] => Some(Apart::Closed),
            [Some(Apart::Silent), _] | [_, Some(Apart::Silent)] => Some(Apart::Silent),
            [None, None] => None,
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, to: usize, target: SocketAddr) {
    for incoming in listener.incoming() {
        if shared.lock().ended {
            return;
        }
        if let Ok(incoming) = incoming {
            let shared = Arc::clone(shared);
            thread::spawn(move || connect(&shared, incoming, to, target));
        }
    }
}

/// An error closes the connection, which is all that its two ends need to know.
fn connect(shared: &Arc<Shared>, incoming: TcpStream, to: usize, target: SocketAddr) -> Option<()> {
    let pids = shared.lock().pids;
    let from = owner(&incoming, pids)?;
    let ends = [from, to];
    if !shared.may_pass(ends) {
        return None;
    }
    let outgoing = TcpStream::connect(target).ok()?;
    for socket in [&incoming, &outgoing] {
        socket.set_nodelay(true).ok()?;
    }
    let sockets = [incoming.try_clone().ok()?, outgoing.try_clone().ok()?];
    let link = {
        let mut state = shared.lock();
        // They may have been parted while this connected.
        if state.ended || state.between(ends) == Some(Apart::Closed) {
            return None;
        }
        let link = state.next_link;
        state.next_link += 1;
        state.links.insert(link, Link { ends, sockets });
        link
    };
    let back = {
        let shared = Arc::clone(shared);
        let (from, to) = (outgoing.try_clone(), incoming.try_clone());
        thread::spawn(move || pass(&shared, ends, from.ok()?, to.ok()?))
    };
    pass(shared, ends, incoming, outgoing);
    let _ = back.join();
    shared.lock().links.remove(&link);
    Some(())
}

/// Passes bytes on until one side ends, and then ends both.
fn pass(shared: &Shared, ends: [usize; 2], mut from: TcpStream, mut to: TcpStream) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or_default();
        // The end of a connection is held up too: a dropped packet can carry it.
        let passed = shared.may_pass(ends)
            && read > 0
            && buffer
                .get(..read)
                .is_some_and(|bytes| to.write_all(bytes).is_ok());
        if !passed {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return None;
        }
    }
}

/// The node that has the other end of this connection.
fn owner(incoming: &TcpStream, pids: [u32; NODES]) -> Option<usize> {
    let (theirs, ours) = (
        incoming.peer_addr().ok()?.port(),
        incoming.local_addr().ok()?.port(),
    );
    let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = sockets
        .lines()
        .find_map(|line| inode_of(line, theirs, ours))?;
    let name = format!("socket:[{inode}]");
    pids.iter().position(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
        files
            .into_iter()
            .flatten()
            .flatten()
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*name))
    })
}

/// The inode in a line of `/proc/net/tcp`, if it is of the connection on loopback from one of these ports to the other.
fn inode_of(line: &str, local: u16, remote: u16) -> Option<&str> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    // In the kernel's order of bytes; a loopback address reads the same on all machines with the same order.
    let address = |port| {
        let ip = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
        format!("{ip:08X}:{port:04X}")
    };
    let is = (columns.next()?, columns.next()?) == (&address(local), &address(remote));
    is.then(|| columns.nth(6)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay whose node 0 is this process, before a server of node 1; and where to connect to reach node 1 by the relay.
    fn before_a_server(pids: [u32; NODES]) -> (Relay, TcpListener, SocketAddr) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = server.local_addr().unwrap();
        let (listeners, addresses) = Relay::bind().unwrap();
        let relay = Relay::serve(listeners, addresses, [target; NODES], pids);
        (relay, server, addresses[1])
    }

    fn this_process() -> [u32; NODES] {
        [std::process::id(), 0, 0]
    }

    fn is_closed(mut socket: &TcpStream) -> bool {
        matches!(socket.read(&mut [0]), Ok(0) | Err(_))
    }

    #[test]
    fn a_silent_link_keeps_its_bytes_until_all_are_joined_again() {
        let (relay, server, address) = before_a_server(this_process());
        let mut ours = TcpStream::connect(address).unwrap();
        let (mut theirs, _) = server.accept().unwrap();
        ours.write_all(b"a").unwrap();
        let mut byte = [0];
        theirs.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"a");

        relay.set_apart(1, Apart::Silent);
        ours.write_all(b"b").unwrap();
        theirs.set_nonblocking(true).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(
            theirs.read(&mut byte).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );

        relay.join_all();
        theirs.set_nonblocking(false).unwrap();
        theirs.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"b");
        theirs.write_all(b"c").unwrap();
        ours.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"c");
    }

    #[test]
    fn a_closed_link_ends_old_connections_and_new_ones_and_so_does_the_relays_end() {
        let (relay, server, address) = before_a_server(this_process());
        let connect = || TcpStream::connect(address).unwrap();
        let ours = connect();
        let (theirs, _) = server.accept().unwrap();
        relay.set_apart(0, Apart::Closed);
        assert!(is_closed(&ours) && is_closed(&theirs) && is_closed(&connect()));

        // The link of the two others does not concern it.
        relay.join_all();
        relay.set_apart(2, Apart::Closed);
        let ours = connect();
        let (theirs, _) = server.accept().unwrap();
        drop(relay);
        assert!(is_closed(&ours) && is_closed(&theirs));
    }

    #[test]
    fn a_stranger_is_not_passed_on() {
        let (_relay, _server, address) = before_a_server([0; NODES]);
        let ours = TcpStream::connect(address).unwrap();
        assert!(is_closed(&ours));
    }
}
