//! App, client and handles, coordinator, worker.
