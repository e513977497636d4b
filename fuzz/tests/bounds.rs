//! What is nested very deep or is very wide is read or refused, with a small stack and in time.

use celeriac_fuzz::{deep, target, wide};

#[track_caller]
fn run(inputs: Vec<(&'static str, String, Vec<u8>)>) {
    for (name, kind, input) in inputs {
        // What ends the stack ends the process: the last line says with what.
        print!("{name} {kind}: {} bytes", input.len());
        let start = std::time::Instant::now();
        target(name).expect("there is such a target").run(&input);
        println!(" in {:?}", start.elapsed());
    }
}

#[test]
fn what_is_nested_far_too_deep_is_refused_in_time_and_on_a_small_stack() {
    run(deep(1_000));
}

#[test]
fn what_is_right_at_the_limits_is_read_on_a_small_stack() {
    for depth in [20, 63, 64, 65, 128] {
        run(deep(depth));
    }
}

#[test]
fn what_is_very_wide_is_read_in_time() {
    run(wide(2_000));
}
