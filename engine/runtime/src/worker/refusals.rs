//! What the backend refuses to this worker now, although it has taken it before: a permission that was taken
//! away, or a place that holds something else.
//!
//! It is said as long as it lasts. Without a permission the worker takes no more leaves meanwhile: what can
//! be neither renewed nor reported would come again to it, and be counted. A place that is broken is one of
//! several.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use celeriac_backends::{BackendError, ErrorKind};
use tokio::sync::Notify;

use crate::Vitals;

/// By the part of the worker that meets it.
#[derive(Debug)]
pub(super) struct Refusals {
    vitals: Vitals,
    /// Whether there are any: looked at with each report.
    any: AtomicBool,
    parts: Mutex<BTreeMap<&'static str, (String, ErrorKind)>>,
    over: Notify,
}

impl Refusals {
    pub(super) fn new(vitals: Vitals) -> Self {
        Self { vitals, any: AtomicBool::new(false), parts: Mutex::default(), over: Notify::new() }
    }

    /// That something is refused.
    pub(super) fn note(&self, part: &'static str, error: &BackendError) {
        let text = error.to_string();
        let mut parts = self.parts();
        let what = (text.clone(), error.kind);
        if parts.insert(part, what.clone()).as_ref() != Some(&what) {
            tracing::error!(part, error = text, source = ?error.source, "the backend refuses; waiting until this is mended");
        }
        self.any.store(true, Ordering::Relaxed);
        drop(parts);
        self.vitals.say(part, Some((text, None)));
    }

    /// Whether something is refused to this part.
    pub(super) fn is_there(&self, part: &'static str) -> bool {
        self.any.load(Ordering::Relaxed) && self.parts().contains_key(part)
    }

    /// That it is taken again.
    pub(super) fn are_over(&self, part: &'static str) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut parts = self.parts();
        if parts.remove(part).is_some() {
            tracing::info!(part, "the backend does not refuse any more");
        }
        self.any.store(!parts.is_empty(), Ordering::Relaxed);
        drop(parts);
        self.vitals.say(part, None);
        self.over.notify_waiters();
    }

    /// Waits until no permission is missing.
    pub(super) async fn allowed(&self) {
        while self.any.load(Ordering::Relaxed) {
            let over = self.over.notified();
            if self.parts().values().all(|(_, kind)| *kind != ErrorKind::Denied) {
                return;
            }
            over.await;
        }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<&'static str, (String, ErrorKind)>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
