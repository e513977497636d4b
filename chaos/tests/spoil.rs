//! The short trial of faults: forty of them, one at a time.

use std::process::Command;

#[test]
fn a_fault_in_any_key_is_harmless_or_said_and_stops_nobody_else() {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_celeriac-chaos"));
    chaos.args(["spoil", "--short"]);
    if let Ok(seed) = std::env::var("CELERIAC_CHAOS_SEED") {
        chaos.args(["--seed", &seed]);
    }
    // What it prints says what was wrong, with the line that replays it.
    let status = chaos.status().expect("the program of this package starts");
    assert!(status.success(), "the trial ended with {status}; see above");
}
