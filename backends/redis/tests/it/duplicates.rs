//! Every completion three times, on Redis.

use std::time::Instant;

use celeriac_conformance::whole::Runs;
use celeriac_testkit::{Cluster, Server};

use crate::backend::Backends;
use crate::setting;

/// `CELERIAC_DUPLICATES_COUNT` chords, chosen by `CELERIAC_DUPLICATES_SEED`.
#[tokio::test(flavor = "multi_thread")]
async fn completions_that_come_three_times_count_once_in_every_chord() {
    let chords = setting("CELERIAC_DUPLICATES_COUNT", if cfg!(debug_assertions) { 2_000 } else { 10_000 });
    let (server, start) = (Server::start(), Instant::now());
    let backend = server.backend().await;
    let seed = setting("CELERIAC_DUPLICATES_SEED", 1);
    celeriac_conformance::duplicates::check(&backend, seed, chords as u32).await;
    println!("{chords} chords in {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_grow_also_when_every_report_comes_three_times() {
    celeriac_conformance::growth::check(Server::shared().backend().await, Runs::Once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_canvases_that_a_leaf_returned_in_several_deliveries_the_first_counts() {
    let backend = Server::shared().backend().await;
    celeriac_conformance::growth::check_that_the_first_counts(backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_grow_also_when_every_report_comes_three_times_on_a_cluster() {
    celeriac_conformance::growth::check(Cluster::shared().backend().await, Runs::AtLeastOnce).await;
}
