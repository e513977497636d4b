//! Submits canvases without a pause, a few at a time, and waits for each until it has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac::backends::{BackendError, ErrorKind};
use celeriac::dsl::Flow;
use celeriac::engine::Plan;
use celeriac::primitives::{Incarnation, Json, RunId, RunRef};
use celeriac::redis::RedisBackend;
use celeriac::runtime::{Compiled, SubmitError};
use celeriac::{App, Canvas};
use celeriac_conformance::random::Rng;

use crate::canvases;
use crate::ledger::now_us;
use crate::options::{Ingredient, Ingredients};

/// A run that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The place of its canvas in the sequence of the seed.
    pub(crate) place: u64,
    pub(crate) id: RunId,
    pub(crate) plan: Arc<Plan>,
    pub(crate) fate: Fate,
}

/// What the client saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    Ended,
    /// The store said that there is no such run.
    Vanished,
}

/// What submitters, sampler and trial share.
#[derive(Debug, Default)]
pub(crate) struct Client {
    runs: Mutex<BTreeMap<u64, Run>>,
    next: AtomicU64,
    /// No more submissions.
    pub(crate) stop: AtomicBool,
    /// No more waiting.
    pub(crate) give_up: AtomicBool,
    forgotten: Mutex<Vec<Forgotten>>,
    /// When there was no room for a run.
    refused_at_us: Mutex<Vec<u64>>,
    wrong: Mutex<Vec<String>>,
}

/// A run that was forgotten, and its key used again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten {
    pub(crate) run: RunRef,
    /// When that was confirmed.
    pub(crate) at_us: u64,
    /// Whether it was there again: Redis had lost that it was forgotten.
    pub(crate) came_back: bool,
}

fn compiled(app: &App, id: RunId, canvas: Canvas) -> Result<Compiled<Json>, SubmitError> {
    app.submission(Flow::<(), Json>::assume(canvas)).id(id).compile()
}

/// After an error that another attempt may mend.
const AGAIN: Duration = Duration::from_millis(50);

impl Client {
    /// Submits and waits, `at_once` canvases at a time, until it is told to stop and all have ended, or to give up.
    pub(crate) async fn work(&self, backend: RedisBackend, seed: u64, at_once: usize, with: &Ingredients) {
        let app = App::builder("chaos").backend(backend).build().expect("an app without tasks fits together");
        futures::future::join_all((0..at_once).map(|_| self.drive(&app, seed, with))).await;
    }

    async fn drive(&self, app: &App, seed: u64, with: &Ingredients) {
        while !self.stop.load(Ordering::Relaxed) {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let is_keyed = with.has(Ingredient::Keys) && place % 8 == 5;
            let id = match is_keyed {
                true => RunId::from_key(&format!("chaos-{place}")),
                false => RunId::from_parts(now_us() / 1000, Rng::new(seed ^ place).next_u64()),
            };
            // What cannot be compiled, the evaluator refuses as well; that is not a matter of faults.
            let Ok(compiled) = compiled(app, id, canvases::canvas(seed, place, with)) else { continue };
            let run = Run { place, id, plan: compiled.plan().clone(), fate: Fate::Open };
            if is_keyed && !self.use_key(app, seed, &run).await {
                return;
            }
            if self.submit(app, &run, &compiled).await {
                self.all().insert(place, run.clone());
                let fate = self.wait(app, &run).await;
                self.all().insert(place, Run { fate, ..run });
            }
        }
    }

    /// Lets another canvas run under the id, and forgets it: at its end, or while it is under way.
    async fn use_key(&self, app: &App, seed: u64, run: &Run) -> bool {
        let canvas = canvases::first_under_a_key(seed, run.place);
        let compiled = compiled(app, run.id, canvas).expect("it is a good canvas");
        let first = Run { plan: compiled.plan().clone(), ..run.clone() };
        if !self.submit(app, &first, &compiled).await {
            return false;
        }
        let mut rng = Rng::new(seed ^ run.place);
        match rng.percent(40) {
            true => drop(self.wait(app, &first).await),
            false => tokio::time::sleep(Duration::from_millis(u64::from(20 + rng.below(600)))).await,
        }
        self.forget(app, &first).await
    }

    async fn forget(&self, app: &App, run: &Run) -> bool {
        let mut stored = None;
        while !self.give_up.load(Ordering::Relaxed) {
            let forgotten = async {
                let found = app.backend().find(run.id).await?.map(|(run, _)| run);
                let none = || run.id.incarnation(Incarnation::default());
                let known = *stored.get_or_insert(found.unwrap_or_else(none));
                app.backend().forget(known).await.map(|_| known)
            };
            match forgotten.await {
                Ok(known) => {
                    let forgotten = Forgotten { run: known, at_us: now_us(), came_back: false };
                    self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).push(forgotten);
                    return true;
                }
                Err(error) if error.may_retry() => tokio::time::sleep(AGAIN).await,
                Err(error) => {
                    self.complain(run, "cannot be forgotten", &error);
                    return false;
                }
            }
        }
        false
    }

    /// Notes that a run is there that was forgotten; `false` when none was.
    fn came_back(&self, id: RunId) -> bool {
        let mut all = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        let last = all.iter_mut().rev().find(|forgotten| forgotten.run.id == id);
        last.map(|forgotten| forgotten.came_back = true).is_some()
    }

    /// Submits under the same id until it is accepted.
    async fn submit(&self, app: &App, run: &Run, compiled: &Compiled<Json>) -> bool {
        while !self.give_up.load(Ordering::Relaxed) {
            let error = match compiled.clone().await {
                Ok(_) => return true,
                Err(SubmitError::Backend(error)) => error,
                Err(error) => unreachable!("it was compiled: {error}"),
            };
            match error.kind {
                _ if error.may_retry() => tokio::time::sleep(AGAIN).await,
                ErrorKind::Full => {
                    self.refused_at_us.lock().unwrap_or_else(PoisonError::into_inner).push(now_us());
                    tokio::time::sleep(AGAIN).await;
                }
                ErrorKind::Conflict if self.came_back(run.id) => {
                    if !Box::pin(self.forget(app, run)).await {
                        return false;
                    }
                }
                _ => {
                    self.complain(run, "was not accepted", &error);
                    return false;
                }
            }
        }
        false
    }

    async fn wait(&self, app: &App, run: &Run) -> Fate {
        let mut handle = None;
        while !self.give_up.load(Ordering::Relaxed) {
            let look = async {
                let handle = match &handle {
                    Some(handle) => handle,
                    None => match app.run::<Json>(run.id).await? {
                        Some(found) => handle.insert(found),
                        None => return Err(BackendError::new(ErrorKind::UnknownRun, "run")),
                    },
                };
                handle.ended().await
            };
            match tokio::time::timeout(Duration::from_secs(1), look).await {
                Ok(Ok(())) => return Fate::Ended,
                Ok(Err(error)) if error.kind == ErrorKind::UnknownRun => return Fate::Vanished,
                Ok(Err(error)) if error.may_retry() => tokio::time::sleep(AGAIN).await,
                Ok(Err(error)) => {
                    self.complain(run, "cannot be waited for", &error);
                    return Fate::Open;
                }
                Err(_) => {}
            }
        }
        Fate::Open
    }

    fn complain(&self, run: &Run, what: &str, error: &BackendError) {
        let line = format!("run {} (canvas {}) {what}: {error}", run.id, run.place);
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// The runs that were accepted.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.all().values().cloned().collect()
    }

    /// How many of them have not ended.
    pub(crate) fn open(&self) -> usize {
        self.all().values().filter(|run| run.fate == Fate::Open).count()
    }

    /// One of the runs that have not ended.
    pub(crate) fn any_open(&self, rng: &mut Rng) -> Option<Run> {
        let all = self.all();
        let open: Vec<&Run> = all.values().rev().take(100).filter(|run| run.fate == Fate::Open).collect();
        open.get(rng.below(open.len() as u32) as usize).copied().cloned()
    }

    /// The runs that were forgotten.
    pub(crate) fn forgotten(&self) -> Vec<Forgotten> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When there was no room for a run.
    pub(crate) fn refused(&self) -> Vec<u64> {
        self.refused_at_us.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
