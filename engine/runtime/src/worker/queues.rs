//! The queues a worker takes leaves from.

use std::sync::{Arc, Mutex, PoisonError};

use celeriac_backends::DEFAULT_QUEUE;
use tokio::sync::Notify;

/// The queues, which may become more while the worker runs.
#[derive(Debug)]
pub(crate) struct Queues {
    names: Mutex<Vec<Arc<str>>>,
    added: Notify,
}

impl Queues {
    pub(super) fn new(names: &[String]) -> Self {
        let names = match names {
            [] => vec![DEFAULT_QUEUE.into()],
            names => names.iter().map(|name| name.as_str().into()).collect(),
        };
        Self { names: Mutex::new(names), added: Notify::new() }
    }

    pub(crate) fn add(&self, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.iter().any(|known| **known == *name) {
            names.push(name.into());
            // Kept when nobody waits: the next fetch then looks once more.
            self.added.notify_one();
        }
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are more.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }
}
