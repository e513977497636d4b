//! Black-box tests, through the facade only.

mod app;
mod flaky;
mod random;
mod sizes;
mod typed;
mod worker;
