//! Random canvases on coordinators and workers that are killed and started again, as is their Redis.
//!
//! ```text
//! client ──submits──► Redis ◄── 2 coordinators, 3 workers ──each call of a task──► ledger (files)
//!                       ▲              ▲                                              │
//!                     killer: SIGKILL, SIGSTOP and SIGCONT, SIGTERM                   │
//!                       └── sampler: dumps of open runs ──► checks ◄── store, raw keys ┘
//! ```
//!
//! The processes are this program, called as the command line of an app: their options, signals and exit
//! codes are those of any app. The ledger is outside the store: a worker writes a line when it calls a task
//! and one when the task returns. When enough was killed the faults stop, and every run has to reach its end
//! soon (`options::SETTLE`); then [`checks`] holds store and ledger against the reference evaluator.
//!
//! ```text
//! scripts/chaos                                  300 kills with each appendfsync
//! scripts/chaos --short                          what scripts/test runs
//! scripts/chaos --cluster --with slots           three masters, and slots that move
//! scripts/chaos --cluster --replicas             replicas that take over
//! scripts/chaos --seed 7 --fsync always --victims workers,redis
//! ```
//!
//! On a Cluster each master is killed by itself. Without
//! replicas and with `appendfsync always` nothing may be
//! lost. A replica takes over without the last writes of
//! its master: what they were is counted, and said to
//! the client; what is still there ends as it should.
//!
//! `scripts/chaos spoil` writes faults into the keys of a live system instead of killing it ([`spoil`]).
//!
//! A seed repeats the canvases and the order of the faults, not their timing to the millisecond.
//!
//! Besides, tasks abort their workers, hang, and panic where none is expected ([`rogues`]), leaves run at
//! most once, keys are used again, and Redis is full for a while: `--with` chooses. Every failure must be one
//! that the canvas was written to have, but for leaves that run at most once and were lost with the worker
//! that had begun them.

mod app;
mod canvases;
mod checks;
mod client;
mod crew;
mod faults;
mod keys;
mod killer;
mod ledger;
mod options;
mod place;
mod report;
mod rogues;
mod sampler;
mod slots;
mod spoil;
mod trial;

use std::process::ExitCode;

use clap::Parser;

use options::{Mode, Options};

fn main() -> ExitCode {
    if let Some(ledger) = std::env::var_os(app::LEDGER) {
        return app::play(ledger.into());
    }
    if std::env::var_os(spoil::PLAYS).is_some() {
        return spoil::play();
    }
    let options = Options::parse().completed();
    if let Some(Mode::Spoil(options)) = options.mode {
        return ExitCode::from(u8::from(!spoil::run(&options.completed())));
    }
    let mut green = true;
    for fsync in options.fsync.modes() {
        green &= trial::run(&options, *fsync);
    }
    ExitCode::from(u8::from(!green))
}
