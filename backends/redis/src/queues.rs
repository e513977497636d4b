//! Which queues there are, and where events come from.
//!
//! Every queue has a line of reports. Whoever queues a leaf first notes the name of its queue in Redis; coordinators
//! look there for queues they do not know.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use celeriac_backends::BackendError;

use crate::connection::Link;
use crate::keys::Line;

/// The queues this process knows of.
#[derive(Debug, Default)]
pub(crate) struct Queues(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Names that are noted in Redis.
    noted: HashSet<Arc<str>>,
    /// The queues whose reports are taken, in the order of their discovery: source 1, 2, 3, …
    sources: Vec<Arc<str>>,
}

impl Queues {
    /// Notes names in Redis, unless this process has done so before.
    pub(crate) async fn note<'n>(
        &self,
        link: &Link,
        operation: &'static str,
        names: impl IntoIterator<Item = &'n Arc<str>>,
    ) -> Result<(), BackendError> {
        let new: Vec<Arc<str>> = {
            let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            names.into_iter().filter(|name| !state.noted.contains(*name)).cloned().collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = new.iter().map(|name| &**name).collect();
        link.ask::<()>(operation, redis::cmd("SADD").arg(link.keys.queues()).arg(names)).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).noted.extend(new);
        Ok(())
    }

    /// Looks for queues in Redis, and notes again there those that somebody removed; whether there are new ones.
    pub(crate) async fn refresh(
        &self,
        link: &Link,
        operation: &'static str,
    ) -> Result<(Vec<Arc<str>>, bool), BackendError> {
        let names: Vec<String> = link.ask(operation, redis::cmd("SMEMBERS").arg(link.keys.queues())).await?;
        let mut names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
        names.sort_unstable();
        let (all, is_new, lost) = self.add(&names);
        self.note(link, operation, &lost).await?;
        Ok((all, is_new))
    }

    /// Adds what Redis names; returns all, whether there are new ones, and those that Redis does not name.
    fn add(&self, names: &[Arc<str>]) -> (Vec<Arc<str>>, bool, Vec<Arc<str>>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.noted.retain(|name| names.contains(name));
        let lost = state.sources.iter().filter(|name| !names.contains(name)).cloned().collect();
        let known = state.sources.len();
        for name in names {
            if !state.sources.contains(name) {
                state.sources.push(name.clone());
            }
        }
        (state.sources.clone(), state.sources.len() > known, lost)
    }

    /// Where events come from: the submissions, then the reports of each queue.
    pub(crate) fn sources(&self, link: &Link) -> Vec<Line> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reports = state.sources.iter().map(|name| link.keys.reports(name));
        std::iter::once(link.keys.submissions()).chain(reports).collect()
    }
}
