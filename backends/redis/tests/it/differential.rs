//! Random operations on Redis and in memory: the same answers, and the same runs afterwards.

use std::time::Duration;

use celeriac_backends::Backend;
use celeriac_conformance::differential::{Differential, Tally};
use celeriac_memory::Memory;
use celeriac_redis::RedisBackend;

use celeriac_testkit::Server;

use crate::setting;

const REPLAY: &str = "cargo test -p celeriac-redis --test it differential";

/// Below this, rare things may not happen.
const ALL_KINDS: u64 = 4_000;

/// `CELERIAC_DIFFERENTIAL_COUNT` operations for each of `CELERIAC_DIFFERENTIAL_SEEDS` seeds, from
/// `CELERIAC_DIFFERENTIAL_SEED` on.
#[tokio::test(flavor = "multi_thread")]
async fn any_operations_have_the_same_effect_on_redis_and_in_memory() {
    let (first, count) =
        (setting("CELERIAC_DIFFERENTIAL_SEED", 1), setting("CELERIAC_DIFFERENTIAL_COUNT", 4_000));
    let server = Server::start();
    let mut tally = Tally::default();
    for seed in first..first + setting("CELERIAC_DIFFERENTIAL_SEEDS", 1) {
        // In memory, a lane is known to all at once.
        let client = || {
            let builder = RedisBackend::builder(server.url()).prefix(format!("d{seed}"));
            builder.lanes_looked_for_every(Duration::ZERO).connect()
        };
        let (one, other) = (client().await.expect("it answers"), client().await.expect("it answers"));
        let clients: [&dyn Backend; 2] = [&one, &other];
        let test = Differential::new(seed, count as u32).replay(REPLAY);
        tally.add(&test.check(&Memory::new(), &clients).await);
        println!("seed {seed}: no difference in {count} operations");
        let left = server.keys("*:{*-*}:*");
        assert!(left.is_empty(), "seed {seed}: forgotten runs leave no keys: {left:?}");
    }
    println!("{tally}");
    if count >= ALL_KINDS {
        tally.check_everything_happened();
    }
}
