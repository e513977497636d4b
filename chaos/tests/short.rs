//! The short trial: nine kills with each `appendfsync`, and nine on a Cluster
//! whose slots move.

use std::process::Command;

/// What it prints says what was wrong, with the line that replays it.
fn check(options: &[&str]) {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_celeriac-chaos"));
    chaos.arg("--short").args(options);
    if let Ok(seed) = std::env::var("CELERIAC_CHAOS_SEED") {
        chaos.args(["--seed", &seed]);
    }
    let status = chaos.status().expect("the program of this package starts");
    assert!(status.success(), "the trial ended with {status}; see above");
}

#[test]
fn nothing_is_lost_doubled_or_stuck_when_everything_is_killed() {
    check(&[]);
}

#[test]
fn nothing_is_lost_doubled_or_stuck_on_a_cluster() {
    check(&["--cluster", "--fsync", "always", "--with", "once,keys,terms,slots"]);
}
