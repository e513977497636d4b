//! Black-box tests, through the facade only.

mod app;
mod coordinator;
mod flaky;
mod growth;
mod limits;
mod panics;
mod poison;
mod random;
mod refused;
mod sizes;
mod threads;
mod typed;
mod worker;
