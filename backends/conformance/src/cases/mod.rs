//! The cases, by what they are about.
#![allow(missing_docs, reason = "a case's name is its promise")]

pub mod boundless;
pub mod clients;
pub mod dispatch;
pub mod events;
pub mod growth;
pub mod hands;
pub mod incarnations;
pub mod keys;
pub mod large;
pub mod life;
pub mod limits;
pub mod policies;
pub mod queue;
pub mod replaced;
pub mod reports;
pub mod settle;
pub mod store;
pub mod suspects;
