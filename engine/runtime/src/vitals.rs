//! How a worker or a coordinator is: what has panicked in it, and whether it goes on.
//!
//! A part that panics starts again, and it is said for a while that it did. One that does so again
//! and again has failed for good: the process that has it should end, and be started again by
//! whoever started it.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::panics::Panicked;

/// A part that has panicked starts again after this, twice this, and so on.
const FIRST: Duration = Duration::from_millis(50);

/// It is said for so long after the part has started again.
const SAID: Duration = Duration::from_secs(5);

/// A part that has run for so long is well again.
const WELL: Duration = Duration::from_secs(10);

/// So many panics in a row are one too many.
const PANICS_MAX: u32 = 5;

/// Does some work to its end, and starts it again when it panics: `kept!(vitals, "reporter",
/// report(&desk))`.
///
/// A macro because the work is a new future each time that borrows from its surroundings.
macro_rules! kept {
    ($vitals:expr, $part:expr, $work:expr) => {{
        let mut relapses = $crate::vitals::Relapses::of($part);
        loop {
            let work = std::panic::AssertUnwindSafe($work);
            match futures::FutureExt::catch_unwind(work).await {
                Ok(done) => break done,
                Err(panic) => {
                    let panicked = $crate::panics::Panicked::of(panic);
                    relapses.note(&$vitals, panicked).await;
                }
            }
        }
    }};
}
pub(crate) use kept;

/// How a worker or a coordinator is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    complaints: Mutex<BTreeMap<&'static str, Complaint>>,
    failed: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct Complaint {
    text: String,
    /// It is said until then; for ever when there is no end.
    until: Option<Instant>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self(Arc::new(Inner { complaints: Mutex::default(), failed: watch::Sender::new(None) }))
    }
}

impl Vitals {
    /// What is wrong, if anything is.
    pub fn complaint(&self) -> Option<String> {
        if let Some(why) = &*self.0.failed.borrow() {
            return Some(why.clone());
        }
        let mut complaints = self.0.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        complaints.retain(|_, complaint| complaint.until.is_none_or(|until| now < until));
        complaints.values().next().map(|complaint| complaint.text.clone())
    }

    /// Waits until a part has failed for good, and says which and why.
    pub async fn failed(&self) -> String {
        let mut failed = self.0.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // Not as long as this lives.
            Err(_) => std::future::pending().await,
        }
    }

    /// Does some work in a task of its own, and starts it again when it panics.
    pub(crate) fn keep<W>(
        &self,
        part: &'static str,
        mut work: impl FnMut() -> W + Send + 'static,
    ) -> JoinHandle<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let vitals = self.clone();
        tokio::spawn(async move { kept!(vitals, part, work()) })
    }

    /// Does some work that need not start again when it panics; that it did is said for a while.
    pub(crate) async fn note(self, part: &'static str, work: impl Future<Output = ()>) {
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            let Panicked { text, .. } = Panicked::of(panic);
            tracing::error!(part, text, "a part has panicked");
            self.say(part, Some((format!("a {part} has panicked: {text}"), Some(SAID))));
        }
    }

    /// Whether a part has failed for good.
    pub(crate) fn is_failed(&self) -> bool {
        self.0.failed.borrow().is_some()
    }

    /// A part has failed for good.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!(why, "this cannot go on");
        self.0.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            failed.get_or_insert(why);
            is_first
        });
    }

    /// Says something about a part, for so long; or nothing any more.
    pub(crate) fn say(&self, part: &'static str, what: Option<(String, Option<Duration>)>) {
        let mut complaints = self.0.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some((text, time)) => {
                let until = time.map(|time| Instant::now() + time);
                complaints.insert(part, Complaint { text, until });
            }
            None => drop(complaints.remove(part)),
        }
    }
}

/// The panics of one part.
pub(crate) struct Relapses {
    part: &'static str,
    count: u32,
    started: Instant,
}

impl Relapses {
    pub(crate) fn of(part: &'static str) -> Self {
        Self { part, count: 0, started: Instant::now() }
    }

    /// Waits before the part starts again; for ever when it has failed for good.
    pub(crate) async fn note(&mut self, vitals: &Vitals, Panicked { text, .. }: Panicked) {
        let part = self.part;
        self.count = if self.started.elapsed() > WELL { 1 } else { self.count + 1 };
        tracing::error!(part, text, count = self.count, "a part has panicked");
        if self.count >= PANICS_MAX {
            vitals.fail(format!("the {part} has panicked {} times in a row: {text}", self.count));
            return std::future::pending().await;
        }
        let wait = FIRST * 2_u32.pow(self.count - 1);
        vitals.say(part, Some((format!("the {part} has panicked: {text}"), Some(wait + SAID))));
        tokio::time::sleep(wait).await;
        self.started = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_starts_again_and_it_is_said_for_a_while() {
        let (vitals, mut times) = (Vitals::default(), 0);
        let done = kept!(vitals, "teller", async {
            times += 1;
            assert!(times > 3, "number {times}");
            times
        });
        assert_eq!(done, 4);
        assert_eq!(vitals.complaint().unwrap(), "the teller has panicked: number 3");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(vitals.complaint(), None);
        assert!(!vitals.is_failed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_again_and_again_has_failed_for_good() {
        let vitals = Vitals::default();
        let part = async { kept!(vitals, "teller", async { panic!("never") }) };
        tokio::select! {
            () = part => unreachable!("it is not done"),
            why = vitals.failed() => assert_eq!(why, "the teller has panicked 5 times in a row: never"),
        }
        assert!(vitals.is_failed() && vitals.complaint().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn panics_that_are_far_apart_are_no_row() {
        let (vitals, mut times) = (Vitals::default(), 0);
        kept!(vitals, "teller", async {
            times += 1;
            tokio::time::sleep(WELL * 2).await;
            assert!(times > 20);
        });
        assert!(!vitals.is_failed());
    }
}
