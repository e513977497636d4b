//! Black-box tests, through the facade only.

mod app;
mod coordinator;
mod flaky;
mod growth;
mod random;
mod sizes;
mod typed;
mod worker;
