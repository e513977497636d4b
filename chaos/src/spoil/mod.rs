//! Faults in a live system: every kind of key is written into, one fault at a time, and what becomes
//! of each is counted.
//!
//! ```text
//!             ┌── a run in a queue of its own ──┐ while it is under way
//! fault n ──► │ a key of it, or one of everybody│ ◄── type, bytes, lengths, depths, members, entries, owners
//!             └── a canary beside ──────────────┘ ends right, within 5 s
//! ```
//!
//! Kinds of keys come from the list that the backend has of them ([`kind`]); what can be done to one
//! follows from what it holds ([`deed`]). After each fault no process may have ended; after each
//! round nobody computes or asks without end while all is still broken, and when what is broken was
//! deleted, everybody is green and nothing is left in a line. A fault is harmless, or in a failed
//! run, or a dead letter, or named in the log and by who is asked for it; what takes an entry away
//! leaves nothing that could be named, and is counted apart.

mod app;
mod deed;
mod forge;
mod kind;
mod mangle;
pub(crate) mod options;
mod process;
mod round;
mod scene;
mod site;
mod tally;

use std::process::ExitCode;
use std::time::Instant;

pub(crate) use self::app::PLAYS;
use self::options::SpoilOptions;
use self::round::Live;
use self::site::{Site, Store};

/// A process of the live system.
pub(crate) fn play() -> ExitCode {
    app::play()
}

/// Returns whether everything was right.
pub(crate) fn run(options: &SpoilOptions) -> bool {
    let began = Instant::now();
    let directory = tempfile::Builder::new().prefix("celeriac-spoil-").tempdir();
    let directory = directory.expect("the temporary directory is writable");
    let store = Store::start(options.cluster);
    let site = Site::start(store, directory.path(), options.round);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("the async runtime starts");
    let (tally, wrong) = runtime.block_on(async {
        let mut live = Live::start(site, options).await;
        for numbers in options.numbers().chunks(options.round) {
            live.round(numbers).await;
            if live.is_over() {
                break;
            }
        }
        live.end().await
    });
    eprintln!("{tally}\nseed {}, {} s", options.seed(), began.elapsed().as_secs());
    wrong.iter().take(60).for_each(|wrong| eprintln!("  {wrong}"));
    if wrong.len() > 60 {
        eprintln!("  and {} more", wrong.len() - 60);
    }
    if !wrong.is_empty() || options.keep {
        let _ = std::fs::write(directory.path().join("wrong"), wrong.join("\n"));
        eprintln!("  kept: {}", directory.keep().display());
    }
    wrong.is_empty()
}
