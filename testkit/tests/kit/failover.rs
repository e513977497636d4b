//! Sentinels that have another server take over.

use celeriac_testkit::Failover;

#[test]
fn another_server_takes_over_with_all_that_was_replicated() {
    let failover = Failover::start();
    let first = failover.primary();
    redis::cmd("SET").arg("a").arg(1).exec(&mut first.connection()).unwrap();
    failover.until_replicated();
    let second = failover.promote();
    assert_ne!(second.port(), first.port());
    failover.until_demoted(first);
    let a: u32 = redis::cmd("GET").arg("a").query(&mut second.connection()).unwrap();
    assert_eq!(a, 1);
    second.kill();
    failover.sentinels()[0].crash_and_restart();
    let third = failover.until_promoted(second);
    let a: u32 = redis::cmd("GET").arg("a").query(&mut third.connection()).unwrap();
    assert_eq!(a, 1);
}
