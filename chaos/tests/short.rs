//! The short trial: nine kills with each `appendfsync`.

use std::process::Command;

#[test]
fn nothing_is_lost_doubled_or_stuck_when_everything_is_killed() {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_celeriac-chaos"));
    chaos.arg("--short");
    if let Ok(seed) = std::env::var("CELERIAC_CHAOS_SEED") {
        chaos.args(["--seed", &seed]);
    }
    // What it prints says what was wrong, with the line that replays it.
    let status = chaos.status().expect("the program of this package starts");
    assert!(status.success(), "the trial ended with {status}; see above");
}
