//! Capability traits of the stores and queues, and their one error type.
