//! Fuzz targets: what every reader of outside bytes promises.
//!
//! A target takes any bytes, panics when a promise is broken, and says what happened
//! otherwise. The bodies are plain functions, run in three ways:
//!
//! | | |
//! |---|---|
//! | `cargo test` (in `fuzz/`) | replays `corpus/` on stable |
//! | `cargo run --release --bin drive -- TARGET SECONDS [SEED]` | mutates the corpus on stable, without instrumentation |
//! | `cargo +nightly fuzz run TARGET --features libfuzzer` | libFuzzer, with coverage |
//!
//! Each input is run with the stack of a small thread, and may take no longer than a
//! generous time: what is nested deep or is very wide is a finding, too, when it ends the
//! stack or takes for ever.
//!
//! `cargo run --bin seed` writes the corpora anew after a change of format.

#![forbid(unsafe_code)]

mod bounds;
mod corpus;
mod dictionary;
mod extremes;
mod mutate;
mod targets;

pub use bounds::{STACK_BYTES, TIME_MAX};
pub use corpus::{artifacts_dir, corpus_dir, read_corpus};
pub use extremes::{Extreme, deep, wide};
pub use mutate::{Mutator, Random};
pub use targets::{canvas_json, message, plan, text};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// What it does with bytes: a panic is a finding, the returned text says what
    /// happened.
    pub body: fn(&[u8]) -> Outcome,
    /// What the driver puts into inputs.
    pub dictionary: &'static [&'static str],
}

/// What a target made of an input that broke no promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether anything was read from the bytes.
    pub accepted: bool,
    /// The shape of what was read, or the error: inputs with the same kind are alike to
    /// the driver.
    pub kind: String,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "text", body: text, dictionary: dictionary::TEXT },
    Target { name: "canvas_json", body: canvas_json, dictionary: dictionary::CANVAS_JSON },
    Target { name: "message", body: message, dictionary: dictionary::BINARY },
    Target { name: "plan", body: plan, dictionary: dictionary::BINARY },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
