//! The Redis backend, on a server that the tests start themselves.

mod backend;
mod connect;
mod faults;
mod suite;
mod whole;
