//! The kit does what it says, to real servers.

mod cluster;
mod commands;
mod failover;
mod network;
mod server;
mod tls;
