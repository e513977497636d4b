//! What a running task knows about itself.

use std::any::type_name;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use celeriac_primitives::{
    Addition, Canvas, Incarnation, Json, LeafOptions, Limits, NodeNo, NotAMember, Options, Outcome, Own,
    RunId, RunRef, TaskError, TaskId, TaskMessage, TaskName,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::flow::IntoCanvas;
use crate::state::{State, States};

/// The attempt at a leaf that is running: ask for it with a parameter `ctx: TaskContext`.
///
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskContext(Arc<Attempt>);

#[derive(Debug)]
struct Attempt {
    task_id: TaskId,
    incarnation: Incarnation,
    attempt: u32,
    surroundings: Arc<Surroundings>,
    options: Option<Arc<LeafOptions>>,
    /// Its own, when it has limits of its own.
    cancellation: Option<CancellationToken>,
    /// Whether it may add members to a list.
    member: bool,
    /// Made by the first that asks: most tasks do not.
    asked: OnceLock<Box<Mutex<Asked>>>,
    beats: AtomicU32,
}

/// The canvases that a task has asked to be run.
#[derive(Debug, Default)]
struct Asked {
    replacement: Option<Canvas>,
    added: Vec<Canvas>,
}

/// What all attempts of a worker share.
#[derive(Debug)]
pub struct Surroundings {
    /// Fires when the worker is about to cut its tasks off.
    pub cancellation: CancellationToken,
    /// The states of the program.
    pub states: Arc<States>,
    /// Who takes the reports of tasks.
    pub reporter: Option<Arc<dyn Reporter>>,
}

/// Where a running task's own reports go. Workers are it.
pub trait Reporter: std::fmt::Debug + Send + Sync {
    /// Takes how far an attempt is: a state, and anything that describes it. Of several at hand the last
    /// counts.
    fn progress(&self, run: RunRef, node: NodeNo, attempt: u32, state: &str, meta: Json);
}

impl TaskContext {
    /// The context of one attempt, for unit tests of a task: its value is an item of a list.
    pub fn new(
        task_id: TaskId,
        attempt: u32,
        cancellation: CancellationToken,
        states: impl Into<Arc<States>>,
    ) -> Self {
        let surroundings = Surroundings { cancellation, states: states.into(), reporter: None };
        let leaf = (task_id, Incarnation::default(), attempt, true);
        Self::of(Arc::new(surroundings), leaf, None, None)
    }

    /// The context in the surroundings of a worker, with the options of its leaf, and, when it has limits of
    /// its own, with a token that they fire.
    pub fn within(
        surroundings: Arc<Surroundings>,
        message: &TaskMessage,
        options: Option<Arc<LeafOptions>>,
        cancellation: Option<CancellationToken>,
    ) -> Self {
        let TaskMessage { task_id, incarnation, attempt, member, .. } = *message;
        Self::of(surroundings, (task_id, incarnation, attempt, member), options, cancellation)
    }

    fn of(
        surroundings: Arc<Surroundings>,
        (task_id, incarnation, attempt, member): (TaskId, Incarnation, u32, bool),
        options: Option<Arc<LeafOptions>>,
        cancellation: Option<CancellationToken>,
    ) -> Self {
        Self(Arc::new(Attempt {
            task_id,
            incarnation,
            attempt,
            surroundings,
            options,
            cancellation,
            member,
            asked: OnceLock::new(),
            beats: AtomicU32::new(0),
        }))
    }

    /// The leaf's id.
    pub fn task_id(&self) -> TaskId {
        self.0.task_id
    }

    /// The run that the leaf belongs to.
    pub fn run_id(&self) -> RunId {
        self.0.task_id.run()
    }

    /// The leaf's node in the run's plan.
    pub fn node(&self) -> NodeNo {
        self.0.task_id.node()
    }

    /// Which attempt at the leaf this is: 1, 2, 3, …
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// How many attempts there were before this one (Celery's `request.retries`).
    pub fn retries(&self) -> u32 {
        self.0.attempt.saturating_sub(1)
    }

    /// A header that the leaf was given with the option `headers`; `None` when there is none of this name, or
    /// it is of another type.
    pub fn header<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        member(self.0.options.as_ref()?.headers.as_ref()?, name)
    }

    /// A stamp that the leaf was given; `None` when there is none of this name, or it is of another type.
    pub fn stamp<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        member(self.0.options.as_ref()?.stamps.as_ref()?, name)
    }

    /// The options of the leaf on which the engine acts, when any were set.
    pub fn options(&self) -> Option<&LeafOptions> {
        self.0.options.as_deref()
    }

    /// Says that the task is alive: one with the option `heartbeat` that does not say so for that long has
    /// failed, with `HeartbeatTimeout`, and its retry policy decides what follows. Long work should call it
    /// in its loop. (The lease is another thing: the worker renews it by itself.)
    pub fn heartbeat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the task has said so: for workers.
    pub fn heartbeats(&self) -> u32 {
        self.0.beats.load(Ordering::Relaxed)
    }

    /// Says how far the task is, and that it is alive: a state of your own, such as `PROGRESS`, and anything
    /// that describes it. Whoever has the run's handle can read it while the task runs. Does not wait;
    /// reports that come too fast are replaced by later ones.
    ///
    /// # Errors
    /// When the description has no JSON form.
    pub fn update_state(&self, state: &str, meta: &impl Serialize) -> Result<(), TaskError> {
        let meta =
            Json::new(meta).map_err(|error| TaskError::new("EncodeError", format!("the meta is {error}")))?;
        self.heartbeat();
        if let Some(reporter) = &self.0.surroundings.reporter {
            let run = self.run_id().incarnation(self.0.incarnation);
            reporter.progress(run, self.node(), self.0.attempt, state, meta);
        }
        Ok(())
    }

    /// The same text for every attempt at this leaf, and for no other leaf: it stands for the run's id and
    /// the node. When a run was forgotten, and its key or id is submitted again, the leaves of the new run
    /// have the keys of the old one's.
    ///
    /// Leaves run at least once: hand this key to whatever must not happen twice (a payment, a mail), so that
    /// the other side can recognise the second attempt.
    pub fn idempotency_key(&self) -> String {
        self.0.task_id.to_string()
    }

    /// Fires when the task should come to an end: its soft time limit has passed, or its worker shuts down
    /// and is about to cut it off. `is_cancelled()` asks, `cancelled().await` waits.
    pub fn cancellation(&self) -> &CancellationToken {
        self.0.cancellation.as_ref().unwrap_or(&self.0.surroundings.cancellation)
    }

    /// Lets a canvas run in the place of this task (Celery's `self.replace`). Return what it returns:
    ///
    /// ```
    /// # extern crate celeriac_dsl as celeriac;
    /// # use celeriac::{TaskContext, group, task};
    /// # use celeriac_primitives::TaskError;
    /// # #[task] async fn add(x: i64, y: i64) -> i64 { x + y }
    /// # #[task] async fn xsum(numbers: Vec<i64>) -> i64 { numbers.iter().sum() }
    /// #[task]
    /// async fn add_to_all(ctx: TaskContext, numbers: Vec<i64>, y: i64) -> Result<i64, TaskError> {
    ///     if numbers.is_empty() {
    ///         return Ok(0);
    ///     }
    ///     ctx.replace(group(numbers.into_iter().map(|x| add.s((x, y)))) | xsum.s(()))
    /// }
    /// ```
    ///
    /// The canvas gets no arguments but its own. Its value becomes the task's, which the compiler checks, and
    /// whatever follows the task follows the canvas; when it fails, the task has failed with the error of the
    /// leaf that failed there, and the task's error callbacks hear of it. An untyped canvas becomes a typed
    /// one with [`Flow::assume`](crate::Flow::assume).
    ///
    /// # Errors
    /// Always: the error tells the worker what to do, and reaches it with `?` as well. Should the task return
    /// something else after all, that counts, and the canvas is dropped. A canvas with an argument that has
    /// no JSON form fails the task, and so does one that is nested too deep (`LimitError`).
    pub fn replace<C: IntoCanvas>(&self, canvas: C) -> Result<C::Output, TaskError> {
        let canvas = into_canvas(canvas)?;
        self.asked().replacement = Some(canvas);
        Err(replaced())
    }

    /// Adds a canvas to the chord in whose header the task is, or to its group (Celery's
    /// `self.add_to_chord`):
    ///
    /// ```
    /// # extern crate celeriac_dsl as celeriac;
    /// # use celeriac::{TaskContext, task};
    /// # use celeriac_primitives::TaskError;
    /// # #[task] async fn add(x: i64, y: i64) -> i64 { x + y }
    /// #[task]
    /// async fn add_each(ctx: TaskContext, numbers: Vec<i64>, y: i64) -> Result<i64, TaskError> {
    ///     for x in numbers {
    ///         ctx.add_to_chord(add.s((x, y)))?;
    ///     }
    ///     Ok(0)
    /// }
    /// ```
    ///
    /// In the list, the values of what is added follow the task's own, in the order in which they were added;
    /// whoever takes the list waits for them. A group that is added brings its members. What was added may
    /// add more, and follows the policy of the list (`on_failure`); where that is `fail`, a failure there is
    /// the task's.
    ///
    /// Nothing is added before the task has ended with a value or a replacement, and nothing at all when it
    /// fails or asks to run again. So, unlike in Celery, a task that is run twice adds once. The compiler
    /// does not know in which list the task will be: add what yields the task's own type.
    ///
    /// # Errors
    /// `ValueError` when the task's value is no item of a list: see [`NotAMember`]. A canvas with an argument
    /// that has no JSON form, or that is nested too deep (`LimitError`).
    pub fn add_to_chord<C: IntoCanvas>(&self, canvas: C) -> Result<(), TaskError> {
        if !self.0.member {
            return Err(NotAMember.into());
        }
        let canvas = into_canvas(canvas)?;
        self.asked().added.push(canvas);
        Ok(())
    }

    /// The canvas that the task asked for with [`TaskContext::replace`]: for unit tests of a task.
    pub fn replacement(&self) -> Option<Canvas> {
        self.asked().replacement.clone()
    }

    /// The canvases that the task added with [`TaskContext::add_to_chord`]: for unit tests of a task.
    pub fn added(&self) -> Vec<Canvas> {
        self.asked().added.clone()
    }

    /// The options with which those tasks were declared that the canvases call which this task asked
    /// for, where there are any: for workers.
    pub fn declared(&self) -> BTreeMap<TaskName, &'static Options> {
        if self.0.asked.get().is_none() {
            return BTreeMap::new();
        }
        let Asked { replacement, added } = &*self.asked();
        let calls = replacement.iter().chain(added).flat_map(Canvas::calls);
        let declared = |(task, options): (&TaskName, &Options)| {
            let declared = options.declared().filter(|declared| !declared.is_empty())?;
            Some((task.clone(), declared))
        };
        calls.filter_map(declared).collect()
    }

    /// How the attempt ended when its function ended thus: for workers.
    pub fn outcome(&self, outcome: Outcome) -> Outcome {
        if self.0.asked.get().is_none() {
            return outcome;
        }
        let Asked { replacement, added } = &*self.asked();
        let own = match (outcome, replacement) {
            (Outcome::Failed(error), Some(canvas)) if is_replaced(&error) => Own::Canvas(json(canvas)),
            (outcome, _) if added.is_empty() => return outcome,
            (Outcome::Success(value), _) => Own::Value(value),
            (Outcome::Ignored, _) => Own::Value(Json::null()),
            (outcome, _) => return outcome,
        };
        match own {
            Own::Canvas(canvas) if added.is_empty() => Outcome::Replace(canvas),
            own => Outcome::Add(Box::new(Addition { own, added: added.iter().map(json).collect() })),
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.asked.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A state of the program.
    ///
    /// # Errors
    /// When no value of this type was given to the app. Workers refuse to start then, so a task meets this
    /// only when it runs without one.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<State<T>, TaskError> {
        self.0.surroundings.states.state().ok_or_else(|| {
            let message = format!("no State<{}> was given to the app", type_name::<T>());
            TaskError::new("MissingState", message)
        })
    }
}

fn member<T: DeserializeOwned>(object: &Json, name: &str) -> Option<T> {
    let members: BTreeMap<String, Json> = object.to().ok()?;
    members.get(name)?.to().ok()
}

fn into_canvas(canvas: impl IntoCanvas) -> Result<Canvas, TaskError> {
    let canvas = canvas.into_canvas().map_err(|error| TaskError::new("FlowError", error.to_string()))?;
    // It travels as Celery's JSON, of which nothing deeper is read, whatever the app allows.
    match Limits::default().check_depth(&canvas) {
        Ok(()) => Ok(canvas),
        Err(error) => {
            canvas.take_apart();
            Err(TaskError::new("LimitError", error.to_string()))
        }
    }
}

fn json(canvas: &Canvas) -> Json {
    Json::from_compact(canvas.to_json())
}

/// What tells a worker that the canvas is to run.
fn replaced() -> TaskError {
    TaskError::new("Replaced", "a canvas runs in the place of this task")
}

/// The same, also when it has become a part of the function's own error.
fn is_replaced(error: &TaskError) -> bool {
    let marker = replaced();
    let text = marker.to_string();
    *error == marker || error.message == text || error.causes.contains(&text)
}

#[cfg(test)]
mod tests {
    use celeriac_primitives::Signature;

    use super::*;
    use crate::error::IntoTaskError;
    use crate::flow::Flow;

    #[test]
    fn the_idempotency_key_is_the_same_for_every_attempt_and_differs_between_leaves() {
        let run = RunId::from_parts(1, 2);
        let context = |place, attempt| {
            let id = run.task(NodeNo::from_index(place));
            TaskContext::new(id, attempt, CancellationToken::new(), States::new())
        };
        assert_eq!(context(0, 1).idempotency_key(), context(0, 2).idempotency_key());
        assert_ne!(context(0, 1).idempotency_key(), context(1, 1).idempotency_key());
        assert_eq!((context(4, 1).run_id(), context(4, 1).node().number()), (run, 5));
    }

    #[test]
    fn a_canvas_replaces_the_task_only_when_its_error_is_returned() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot compute")]
        struct Mine(#[source] TaskError);

        let id = RunId::from_parts(1, 2).task(NodeNo::from_index(0));
        let context = TaskContext::new(id, 1, CancellationToken::new(), States::new());
        let canvas = Canvas::from(Signature::new("add").unwrap());
        let error = context.replace(Flow::<(), i64>::assume(canvas.clone())).unwrap_err();
        let replace = Outcome::Replace(Json::from_compact(canvas.to_json()));
        assert_eq!(context.replacement(), Some(canvas));
        for error in [error.clone(), Mine(error.clone()).into_task_error()] {
            assert_eq!(context.outcome(Outcome::Failed(error)), replace);
        }
        for other in [Outcome::Ignored, Outcome::Failed(TaskError::new("Replaced", "boom"))] {
            assert_eq!(context.outcome(other.clone()), other);
        }
        let fresh = TaskContext::new(id, 1, CancellationToken::new(), States::new());
        assert_eq!(fresh.outcome(Outcome::Failed(error.clone())), Outcome::Failed(error));
    }

    #[test]
    fn canvases_are_added_when_the_task_has_returned() {
        let id = RunId::from_parts(1, 2).task(NodeNo::from_index(0));
        let canvas = Canvas::from(Signature::new("add").unwrap());
        let flow = || Flow::<(), i64>::assume(canvas.clone());
        let context = TaskContext::new(id, 1, CancellationToken::new(), States::new());
        context.add_to_chord(flow()).unwrap();
        context.add_to_chord(flow()).unwrap();
        assert_eq!(context.added(), [canvas.clone(), canvas.clone()]);
        let added = vec![json(&canvas), json(&canvas)];
        let adds = |own| Outcome::Add(Box::new(Addition { own, added: added.clone() }));
        let value = Json::new(&7).unwrap();
        assert_eq!(context.outcome(Outcome::Success(value.clone())), adds(Own::Value(value)));
        assert_eq!(context.outcome(Outcome::Ignored), adds(Own::Value(Json::null())));
        for other in [Outcome::Expired, Outcome::Failed(TaskError::new("ValueError", "boom"))] {
            assert_eq!(context.outcome(other.clone()), other);
        }
        let error = context.replace(flow()).unwrap_err();
        assert_eq!(context.outcome(Outcome::Failed(error)), adds(Own::Canvas(json(&canvas))));

        let kwargs = Json::parse("{}").unwrap();
        let task = Signature::new("add").unwrap().task;
        let message = TaskMessage::new(id, 1, task, celeriac_primitives::Call::Once, Json::list(&[]), kwargs);
        let alone = TaskContext::within(context.0.surroundings.clone(), &message, None, None);
        let error = alone.add_to_chord(flow()).unwrap_err();
        assert!(error.to_string().starts_with("ValueError: the task is no member of a group"), "{error}");
        assert_eq!(alone.outcome(Outcome::Ignored), Outcome::Ignored);
    }

    #[test]
    fn a_canvas_nested_too_deep_is_neither_replacement_nor_member() {
        let id = RunId::from_parts(1, 2).task(NodeNo::from_index(0));
        for (depth, is_right) in [(64, true), (65, false), (100_000, false)] {
            let leaf = || Canvas::from(Signature::new("add").unwrap());
            let canvas = || (0..depth).fold(leaf(), |inner, _| Canvas::group([inner]));
            let context = TaskContext::new(id, 1, CancellationToken::new(), States::new());
            let flow = || Flow::<(), i64>::assume(canvas());
            let replaced = context.replace(flow()).unwrap_err();
            let added = context.add_to_chord(flow());
            assert_eq!((replaced.kind == "Replaced", added.is_ok()), (is_right, is_right), "{depth}");
            if let Err(error) = added {
                assert_eq!(error, replaced);
                assert_eq!(error.kind, "LimitError");
                assert!(
                    error.message.contains("canvases are nested more than 64 deep; flatten it"),
                    "{error}"
                );
                let failed = Outcome::Failed(error);
                assert_eq!(context.outcome(failed.clone()), failed);
                assert_eq!((context.replacement(), context.added().len()), (None, 0));
            }
        }
    }

    #[test]
    fn a_state_that_nobody_gave_is_named() {
        let id = RunId::from_parts(1, 2).task(NodeNo::from_index(0));
        let context = TaskContext::new(id, 1, CancellationToken::new(), States::new());
        let error = context.state::<u8>().unwrap_err();
        assert_eq!(error.to_string(), "MissingState: no State<u8> was given to the app");
    }
}
