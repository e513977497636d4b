//! Ports of loopback that nobody listens on.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Below 32,768: above, the system takes ports for outgoing connections, and somebody who calls a dead server again
/// and again would in the end be given the server's own port, and talk to himself.
const LOWEST: u16 = 10_240;
const COUNT: usize = 22_000;

/// A port that is free now and that this process has not been given for a long time. Another process may take it
/// before it is used: whoever uses it has to be ready for that.
pub(crate) fn free() -> u16 {
    static FIRST: LazyLock<usize> = LazyLock::new(|| RandomState::new().hash_one(0) as usize % COUNT);
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..COUNT {
        let offset = (*FIRST + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = LOWEST + u16::try_from(offset).expect("22,000 is less than 65,536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {LOWEST} on is free");
}
