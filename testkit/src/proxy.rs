//! A bad network, between clients and one server, or all nodes of a cluster. What it is to do is in
//! `rules`, what it does to the bytes of a connection in `pump`, what it does to commands in `filter`.

mod connection;
mod filter;
mod pump;
mod replies;
mod requests;
mod rules;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::rules::Rules;
pub use self::rules::{Connections, Trap, Ways};
use crate::Cluster;
use crate::server::port;

/// A TCP proxy on loopback that can be told, at any time, to lose, delay, and hold back what passes. It
/// reads what passes as far as it has to count commands, and can go dead at one of them; bytes that are
/// not Redis, such as TLS, pass unread.
///
/// Without orders it passes everything as it comes. Orders hold until [`heal`](Self::heal). It works in
/// the runtime that it was started in, so who blocks a runtime of one thread blocks the proxy as well.
///
/// A client that uses `CLIENT REPLY` is not understood: every command has to have its reply. A client of a
/// cluster goes past a proxy, to where the nodes say that they are, but for
/// [`before_cluster`](Self::before_cluster).
#[derive(Debug)]
pub struct Proxy {
    /// Of a cluster, one for each node.
    addresses: Vec<SocketAddr>,
    rules: Arc<watch::Sender<Rules>>,
}

impl Proxy {
    /// Listens on a free port, and connects whoever comes with this address.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub async fn start(target: SocketAddr) -> Self {
        let (listener, address) = listen().await;
        let rules = Arc::new(watch::Sender::new(Rules::new(1)));
        tokio::spawn(accept(listener, address, target, rules.clone()));
        Self { addresses: vec![address], rules }
    }

    /// Listens before each node of a cluster that was started with
    /// [`without_addresses`](crate::ServerBuilder::without_addresses), on the port of the node and an
    /// address of loopback by itself: whoever begins with the [URL](Self::cluster_url) finds all nodes
    /// there. The orders are to all of it: commands are counted together, and it goes dead as a whole.
    ///
    /// # Panics
    ///
    /// When somebody else listens on one of the ports.
    pub async fn before_cluster(cluster: &Cluster) -> Self {
        let rules = Arc::new(watch::Sender::new(Rules::new(cluster.nodes().len())));
        let host = own_host();
        let mut addresses = Vec::new();
        for node in cluster.nodes() {
            let address = SocketAddr::from((host, node.port()));
            let listener =
                TcpListener::bind(address).await.expect("the port is free on an address of our own");
            tokio::spawn(accept(listener, address, node.address(), rules.clone()));
            addresses.push(address);
        }
        Self { addresses, rules }
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// `redis-cluster://127.0.3.7:port,127.0.3.7:port,…`
    pub fn cluster_url(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }

    /// Where it listens; before a cluster, in the place of the first node.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.rules.borrow().open
    }

    /// How many connections were made since the start.
    pub fn accepted(&self) -> u64 {
        self.rules.borrow().next_connection
    }
}

/// Orders to the network.
impl Proxy {
    /// Closes all connections. New ones may be made at once.
    pub fn cut(&self) {
        self.rules.send_modify(|rules| rules.cut_before = rules.next_connection);
    }

    /// Lets nobody connect. Connections stay.
    pub fn refuse(&self) {
        self.rules.send_modify(|rules| rules.refusing = true);
    }

    /// Everything takes this much longer on its way; how much can pass stays the same.
    pub fn delay(&self, ways: Ways, delay: Duration) {
        self.rules.send_modify(|rules| rules.ways(ways).for_each(|way| way.delay = delay));
    }

    /// Lets so many bytes pass in a second, of all connections together.
    ///
    /// # Panics
    ///
    /// When it is 0; [`hold`](Self::hold) is meant for that.
    pub fn throttle(&self, ways: Ways, bytes_per_second: u64) {
        assert!(bytes_per_second > 0, "to let nothing pass, hold");
        let rate = Some(bytes_per_second);
        self.rules.send_modify(|rules| rules.ways(ways).for_each(|way| way.bytes_per_second = rate));
    }

    /// Lets nothing pass for now: bytes, and that somebody has closed, arrive when the network is healed,
    /// as after a partition that TCP has outlived.
    pub fn hold(&self, ways: Ways) {
        self.rules.send_modify(|rules| rules.ways(ways).for_each(|way| way.holding = true));
    }

    /// Loses everything from now on, and that somebody has closed, while the connections stay open; in one
    /// direction, or half-open. Connections that lost something are closed when the network is healed.
    pub fn swallow(&self, ways: Ways, connections: Connections) {
        self.rules.send_modify(|rules| {
            let end = rules.end_of(connections);
            rules.ways(ways).for_each(|way| way.swallow_before = end);
        });
    }

    /// Ends all orders to the network, and that it is dead after a trap, and waits until somebody can
    /// connect. A trap that nobody went into, what is counted, and what is doubled stay.
    pub async fn heal(&self) {
        self.rules.send_modify(|rules| {
            rules.refusing = false;
            rules.ways(Ways::Both).for_each(rules::Way::heal);
        });
        let mut changes = self.rules.subscribe();
        let healed = changes.wait_for(|rules| rules.is_listening() || rules.refusing).await;
        drop(healed.expect("the proxy holds the sender"));
    }
}

/// What it does with commands.
impl Proxy {
    /// How many commands clients have sent that count, since the start.
    pub fn counted(&self) -> u64 {
        self.rules.borrow().counted
    }

    /// Says which commands count, by their name in upper case. Unless told otherwise, all but `HELLO`,
    /// `AUTH`, `CLIENT`, `SELECT`, `PING` and `SCRIPT`. `SUBSCRIBE` and its kin never count: they have no
    /// reply of their own.
    pub fn count(&self, counts: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.rules.send_modify(|rules| rules.counts = Arc::new(counts));
    }

    /// Goes dead at the `nth` command that is counted from now on, the first being 1: all connections are
    /// closed, new ones refused, until the network is healed. No command that comes later reaches the
    /// server, on whichever connection. Those of other connections that are on their way at that moment
    /// may reach it or not, as when a process dies.
    ///
    /// With [`Trap::After`], nothing passes to the server while it executes the command; one that waits
    /// for others, like `BLPOP`, waits in vain. If the server dies meanwhile, or the client gives up, the
    /// proxy goes dead too.
    ///
    /// # Panics
    ///
    /// When `nth` is 0.
    pub fn trap(&self, nth: u64, trap: Trap) {
        assert!(nth > 0, "the first command is number 1");
        self.rules.send_modify(|rules| {
            rules.tripped = None;
            rules.trap = Some((rules.counted + nth, trap));
        });
    }

    /// Removes a trap that nobody went into.
    pub fn disarm(&self) {
        self.rules.send_modify(|rules| {
            rules.trap = None;
            rules.last = None;
        });
    }

    /// The name of the command at which the proxy went dead; none if it has not since the trap was set.
    pub fn tripped(&self) -> Option<String> {
        self.rules.borrow().tripped.clone()
    }

    /// Waits until the proxy goes dead at a command; the name of the command.
    pub async fn until_tripped(&self) -> String {
        let mut changes = self.rules.subscribe();
        let tripped = changes.wait_for(|rules| rules.tripped.is_some()).await;
        tripped.expect("the proxy holds the sender").tripped.clone().expect("that was waited for")
    }

    /// Sends the server twice each command whose name, in upper case, the predicate holds for; the client
    /// sees the first reply. Not for commands between `MULTI` and `EXEC`, whose reply would show it.
    pub fn duplicate(&self, duplicates: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.rules.send_modify(|rules| rules.duplicates = Arc::new(duplicates));
    }

    /// Answers, in the place of the server, the next commands whose name, in upper case, the predicate
    /// holds for: with an error such as `LOADING Redis is loading`. The server does not see them. Not for
    /// commands between `MULTI` and `EXEC`, and not for the one that a trap waits for.
    pub fn answer(&self, error: &str, times: u64, answers: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let reply = format!("-{error}\r\n").into();
        let answer = Some(rules::Answer { reply, left: times, answers: Arc::new(answers) });
        self.rules.send_modify(|rules| rules.answer = answer);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.rules.send_modify(|rules| rules.closed = true);
    }
}

/// An address of loopback for one proxy before a cluster.
fn own_host() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Other processes have other ones as a rule, and other ports besides.
    let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, a, b, _] = number.to_be_bytes();
    let c = u8::try_from(2 + number % 250).expect("it is less than 252");
    Ipv4Addr::new(127, a, b, c)
}

async fn listen() -> (TcpListener, SocketAddr) {
    for _ in 0..20 {
        let address = (Ipv4Addr::LOCALHOST, port::free()).into();
        if let Ok(listener) = TcpListener::bind(address).await {
            return (listener, address);
        }
    }
    panic!("a free port was taken twenty times, each time another");
}

/// Takes connections until the proxy is dropped.
async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
) {
    let mut changes = rules.subscribe();
    let (mut listener, mut listens) = (Some(listener), true);
    loop {
        let (closed, refusing) = {
            let rules = changes.borrow_and_update();
            (rules.closed, rules.refusing)
        };
        if closed {
            return;
        }
        if refusing {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let is_listening = listener.is_some();
        rules.send_if_modified(|rules| rules.listens(&mut listens, is_listening));
        tokio::select! {
            _ = changes.changed() => {}
            // Somebody has taken the port meanwhile.
            () = tokio::time::sleep(Duration::from_millis(10)), if !is_listening && !refusing => {}
            Ok((client, _)) = next(listener.as_ref()) => {
                tokio::spawn(admit(client, target, rules.clone()));
            }
        }
    }
}

/// The next client, if somebody listens.
async fn next(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Gives the connection its number and serves it, unless new ones are refused.
async fn admit(client: TcpStream, target: SocketAddr, rules: Arc<watch::Sender<Rules>>) {
    let mut number = None;
    rules.send_if_modified(|rules| {
        if !rules.refusing && !rules.closed {
            number = Some(rules.next_connection);
            rules.next_connection += 1;
            rules.open += 1;
        }
        false
    });
    let Some(number) = number else { return };
    let server = connection::serve(client, target, number, &rules).await;
    rules.send_modify(|rules| rules.open -= 1);
    if let Some(server) = server {
        connection::drain(server).await;
    }
}
