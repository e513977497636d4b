//! The Redis backend, on a server that the tests start themselves.

mod clients;
mod faults;
mod server;
mod suite;
mod whole;
