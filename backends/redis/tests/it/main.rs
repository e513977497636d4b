//! The Redis backend, on a server that the tests start themselves.

mod backend;
mod connect;
mod crash_points;
mod faults;
mod suite;
mod whole;
