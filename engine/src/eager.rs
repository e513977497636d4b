//! The reference evaluator: what a canvas means, as one recursive function.
//!
//! It runs every leaf in place, one after the other, and is meant to be read as the definition: compiling and advancing a
//! plan must give the same values, the same failures and the same callbacks. It shares no code with them.
//!
//! | canvas | value |
//! |---|---|
//! | signature | what its task returns; the input is prepended to the arguments unless it is immutable |
//! | chain | that of its last step, each step fed with the one before; the empty chain hands on its input |
//! | group | the list of its members' values, every member fed with the input; a group directly in it is spliced |
//! | chord | that of its body, fed with the list of its header's values |
//! | map, starmap | one leaf's list; the input is ignored |
//! | chunks | the list of its parts' lists, one starmap leaf each; the input is ignored |
//!
//! **Failure.** A leaf that fails takes with it whatever needs its value, and nothing else: siblings go on. Ignoring the
//! input is not the same as not needing it: an immutable step runs after its predecessor's success only.
//!
//! **Policies** (`on_failure` of a group, or of a chord for its header) say what a member that fails does to the list:
//! it takes the list with it, is left out of it, or stands in it as `{"error": failure}` where the others are
//! `{"ok": value}`. A group that is spliced and has no policy of its own has that of the list it goes into. A failure
//! that is tolerated ends with its member: error callbacks of what is around the list do not hear of it.
//!
//! **In either case** (`finally`) something runs once with `{"ok": value}` when its canvas has succeeded, or with
//! `{"error": failure}` when it has failed.
//!
//! **Callbacks** (`link`) run once after their canvas succeeded, with its value. **Error callbacks** (`link_error`) run
//! with the failure of a leaf inside their canvas. An error callback covers the members of a group each for itself; the
//! steps of a chain but the last one all together, that is, it runs once, whichever and however many leaves fail there;
//! a chord's header together in the same way; and the last step or the body by these rules again. An error callback of a
//! chord's body covers its header, too: that is where Celery keeps those of a chord. What fails inside a
//! callback of either kind concerns only the callbacks within it.
//!
//! **Replacement.** A leaf may return a canvas in place of a value ([`Returned::Replace`]). It runs there with no input
//! and no error callbacks but its own; its value is the leaf's, and of its failures the first is the leaf's.
//!
//! **Adding members.** A leaf whose value is an item of a list may add canvases ([`Returned::Add`]): as if they stood
//! behind it in its group or header, with its policy, but with no input and no error callbacks but their own. Whose value
//! is an item: a member; of a member that is a chain the last step, of a chord the body; and the same of a canvas that
//! runs in the place of such a leaf, or that one added. Where a failure is not tolerated, one of theirs is the leaf's. The
//! list alone gets their values; callbacks get the leaf's own.
//!
//! ```
//! use celeriac_engine::eager::eager;
//! use celeriac_primitives::{Canvas, Json, Signature};
//!
//! let sum = Canvas::group([Signature::new("add")?.arg(1)?.into(), Signature::new("add")?.arg(2)?.into()])
//!     .then(Signature::new("sum")?);
//! let evaluation = eager(&sum, &mut |leaf| {
//!     let numbers: Vec<i64> = match leaf.task.as_str() {
//!         "sum" => leaf.args[0].to().unwrap(),
//!         _ => leaf.args.iter().map(|arg| arg.to().unwrap()).collect(),
//!     };
//!     Ok(Json::new(&numbers.iter().sum::<i64>()).unwrap())
//! })?;
//! assert_eq!(evaluation.result.unwrap().as_str(), "3");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::cell::Cell;
use std::rc::Rc;

use celeriac_primitives::{
    Call, Canvas, Chain, Chord, Json, Kwargs, MapKind, OnFailure, Path, Segment, TaskError, TaskName,
    TaskState,
};

/// One call of [`eager`]'s `execute`: a leaf with its arguments complete.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// Where it stands, the canvas as written.
    pub path: Path,
    /// The task to run.
    pub task: &'a TaskName,
    /// Once, or once per item of `args`.
    pub call: Call,
    /// The arguments, the input first unless it is ignored; for a map or starmap the items.
    pub args: Vec<Json>,
    /// The keyword arguments; a map has none.
    pub kwargs: &'a Kwargs,
}

/// What a leaf returns.
#[derive(Clone, Debug, PartialEq)]
pub enum Returned {
    /// Its value.
    Value(Json),
    /// A canvas to run in its place.
    Replace(Canvas),
    /// One of the two, and canvases for the list that its value goes into.
    Add(Box<Returned>, Vec<Canvas>),
}

impl From<Json> for Returned {
    fn from(value: Json) -> Self {
        Self::Value(value)
    }
}

/// A leaf that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EagerFailure {
    /// The leaf.
    pub path: Path,
    /// Its task.
    pub task: TaskName,
    /// What `execute` returned.
    pub error: TaskError,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The value, or the first failure that the value needed.
    pub result: Result<Json, EagerFailure>,
    /// All failures in the order of evaluation, but for those inside callbacks of either kind.
    pub failures: Vec<EagerFailure>,
}

/// A canvas that has no meaning. Nothing of it was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EagerError {
    /// A chord without a body.
    #[error("{path}: a chord needs a body: write chord([…], body), or group(…) for the list alone")]
    NoBody {
        /// The chord.
        path: Path,
    },
    /// Chunks of no items.
    #[error("{path}: chunks need a size of 1 or more")]
    NoSize {
        /// The chunks.
        path: Path,
    },
    /// A policy for the members of something that has none.
    #[error(
        "{path}: only groups and chords have members that may fail: remove on_failure, or write group(…)"
    )]
    NoMembers {
        /// The canvas that has it.
        path: Path,
    },
}

/// Evaluates a canvas, calling `execute` for every leaf. Arguments of a call are bound before ([`Canvas::bind`]).
///
/// # Errors
/// [`EagerError`], before anything is run.
pub fn eager<R: Into<Returned>>(
    canvas: &Canvas,
    execute: &mut dyn FnMut(&Leaf<'_>) -> Result<R, TaskError>,
) -> Result<Evaluation, EagerError> {
    check(canvas, &Path::root())?;
    let execute = &mut |leaf: &Leaf<'_>| execute(leaf).map(Into::into);
    let mut eager = Eager { execute, failures: Vec::new(), added: Vec::new() };
    let result = eager.run(canvas, &Path::root(), None, &[], Place::Alone);
    // What hands on its input, and got none, has nothing to hand on: null.
    Ok(Evaluation { result: result.map(|value| value.unwrap_or_else(Json::null)), failures: eager.failures })
}

fn check(canvas: &Canvas, path: &Path) -> Result<(), EagerError> {
    let all = |parts: &[Canvas], segment: fn(u32) -> Segment| {
        parts.iter().zip(0..).try_for_each(|(part, i)| check(part, &path.child(segment(i))))
    };
    if canvas.options().on_failure().is_some() && !matches!(canvas, Canvas::Group(_) | Canvas::Chord(_)) {
        return Err(EagerError::NoMembers { path: path.clone() });
    }
    match canvas {
        Canvas::Chord(Chord { body: None, .. }) => return Err(EagerError::NoBody { path: path.clone() }),
        Canvas::Chunks(chunks) if chunks.size == 0 => return Err(EagerError::NoSize { path: path.clone() }),
        Canvas::Chord(Chord { header, body: Some(body), .. }) => {
            all(header, Segment::Header)?;
            check(body, &path.child(Segment::Body))?;
        }
        Canvas::Chain(chain) => all(&chain.steps, Segment::Chain)?,
        Canvas::Group(group) => all(&group.members, Segment::Group)?,
        Canvas::Signature(_) | Canvas::Map(_) | Canvas::Chunks(_) => {}
    }
    all(canvas.options().link(), Segment::Link)?;
    all(canvas.options().link_error(), Segment::LinkError)?;
    all(canvas.options().finally(), Segment::Finally)
}

/// The error callbacks of one canvas, as they cover the part of it that is being evaluated.
#[derive(Clone)]
struct Cover<'a> {
    errbacks: &'a [Canvas],
    /// The canvas that they are attached to.
    path: Path,
    /// Set for a part that is covered together: whether they have run for it.
    together: Option<Rc<Cell<bool>>>,
}

/// All covers of a part, the outermost canvas first.
type Covers<'a> = [Cover<'a>];

/// The same covers for a part in which each runs once, whatever fails there.
fn together<'a>(covers: &Covers<'a>) -> Vec<Cover<'a>> {
    let once = |cover: &Cover<'a>| Some(cover.together.clone().unwrap_or_default());
    covers.iter().map(|cover| Cover { together: once(cover), ..cover.clone() }).collect()
}

struct Eager<'e> {
    execute: &'e mut dyn FnMut(&Leaf<'_>) -> Result<Returned, TaskError>,
    failures: Vec<EagerFailure>,
    /// Items for the list that is being put together, besides the value of the member that is being run: what the policy
    /// of the list makes of values and failures.
    added: Vec<Json>,
}

/// Where the value of a canvas goes.
#[derive(Clone, Copy)]
enum Place {
    /// It is no item of a list.
    Alone,
    /// It is an item of a list with this policy.
    Item(OnFailure),
    /// It is the value of a group, and its items are those of a list with this policy.
    Spliced(OnFailure),
}

/// A value; `None` is that of an empty chain without input.
type Value = Result<Option<Json>, EagerFailure>;

impl Eager<'_> {
    fn run(
        &mut self,
        canvas: &Canvas,
        path: &Path,
        input: Option<&Json>,
        covers: &Covers<'_>,
        place: Place,
    ) -> Value {
        let value = self.succeed(canvas, path, input, covers, place);
        for (last, i) in canvas.options().finally().iter().zip(0..) {
            let entry = entry(value.as_ref().map(Option::as_ref));
            self.call(last, &path.child(Segment::Finally(i)), &entry);
        }
        value
    }

    /// Runs a canvas and, when it has succeeded, its callbacks.
    fn succeed(
        &mut self,
        canvas: &Canvas,
        path: &Path,
        input: Option<&Json>,
        covers: &Covers<'_>,
        place: Place,
    ) -> Value {
        let mut covers = covers.to_vec();
        covers.push(Cover { errbacks: canvas.options().link_error(), path: path.clone(), together: None });
        let policy = canvas.options().on_failure();
        let value = match canvas {
            Canvas::Signature(signature) => {
                let input = input.filter(|_| !signature.immutable);
                let args = input.into_iter().chain(&signature.args).cloned().collect();
                let (task, kwargs) = (&signature.task, &signature.kwargs);
                let leaf = Leaf { path: path.clone(), task, call: Call::Once, args, kwargs };
                Some(self.leaf(leaf, &covers, place)?)
            }
            Canvas::Map(map) => {
                let call = match map.kind {
                    MapKind::Map => Call::Map,
                    MapKind::Starmap => Call::Starmap,
                };
                Some(self.map(path.clone(), &map.task, call, &map.items, &covers)?)
            }
            Canvas::Chunks(chunks) => {
                let parts = chunks.items.chunks(chunks.size).zip(0..).map(|(items, i)| {
                    self.map(path.child(Segment::Chunk(i)), &chunks.task, Call::Starmap, items, &covers)
                });
                // Collected twice: a part that fails does not stop the next.
                let parts: Vec<_> = parts.collect();
                Some(Json::list(parts.into_iter().collect::<Result<Vec<_>, _>>()?))
            }
            Canvas::Chain(chain) => self.chain(chain, path, input, &covers, place)?,
            Canvas::Group(group) => {
                let around = if let Place::Spliced(policy) = place { policy } else { OnFailure::Fail };
                let policy = policy.unwrap_or(around);
                Some(self.members(&group.members, path, Segment::Group, input, &covers, policy)?)
            }
            Canvas::Chord(chord) => {
                let body = chord.body.as_deref().expect("check refuses a chord without a body");
                let body_path = path.child(Segment::Body);
                let mut header_covers = covers.clone();
                let errbacks = body.options().link_error();
                header_covers.push(Cover { errbacks, path: body_path.clone(), together: None });
                let header_covers = together(&header_covers);
                let policy = policy.unwrap_or_default();
                let list =
                    self.members(&chord.header, path, Segment::Header, input, &header_covers, policy)?;
                self.run(body, &body_path, Some(&list), &covers, place)?
            }
        };
        for (callback, i) in canvas.options().link().iter().zip(0..) {
            self.call(callback, &path.child(Segment::Link(i)), &value.clone().unwrap_or_else(Json::null));
        }
        Ok(value)
    }

    /// Steps, each fed with the value of the one before.
    fn chain(
        &mut self,
        chain: &Chain,
        path: &Path,
        input: Option<&Json>,
        covers: &Covers<'_>,
        place: Place,
    ) -> Value {
        let mut value = input.filter(|_| !chain.immutable).cloned();
        let before_last = together(covers);
        // Empty chains after it do not make a step less the last.
        let last = chain.steps.iter().rposition(|step| !step.is_identity()).unwrap_or(0);
        for (i, step) in chain.steps.iter().enumerate() {
            let covers = if i < last { &before_last } else { covers };
            let path = path.child(Segment::Chain(i as u32));
            let place = if i == last { place } else { Place::Alone };
            value = self.run(step, &path, value.as_ref(), covers, place)?;
        }
        Ok(value)
    }

    /// The list of the members' values; groups among them are spliced. All run, also after one has failed.
    fn members(
        &mut self,
        members: &[Canvas],
        path: &Path,
        segment: fn(u32) -> Segment,
        input: Option<&Json>,
        covers: &Covers<'_>,
        policy: OnFailure,
    ) -> Result<Json, EagerFailure> {
        // These are for another list.
        let outside = std::mem::take(&mut self.added);
        let mut list = Ok(Vec::new());
        for (member, i) in members.iter().zip(0..) {
            let is_group = matches!(member, Canvas::Group(_));
            // Where a failure is tolerated, nothing around the list has failed.
            let covers = if policy.tolerates() && !is_group { &[] } else { covers };
            let place = if is_group { Place::Spliced(policy) } else { Place::Item(policy) };
            let value = self.run(member, &path.child(segment(i)), input, covers, place);
            let added = std::mem::take(&mut self.added);
            match (&mut list, value.map(|value| value.unwrap_or_else(Json::null))) {
                (Ok(list), Ok(value)) if is_group => {
                    list.extend(value.to::<Vec<Json>>().expect("the value of a group is a list"));
                }
                (Ok(list), value) if policy == OnFailure::Collect && !is_group => {
                    list.push(entry(value.as_ref().map(Some)));
                    list.extend(added.into_iter().filter(|_| value.is_ok()));
                }
                (Ok(_), Err(_)) if policy == OnFailure::Drop && !is_group => {}
                (Ok(list), Ok(value)) => list.extend(std::iter::once(value).chain(added)),
                (Ok(_), Err(failure)) => list = Err(failure),
                (Err(_), _) => {}
            }
        }
        self.added = outside;
        list.map(Json::list)
    }

    fn map(
        &mut self,
        path: Path,
        task: &TaskName,
        call: Call,
        items: &[Json],
        covers: &Covers<'_>,
    ) -> Result<Json, EagerFailure> {
        let leaf = Leaf { path, task, call, args: items.to_vec(), kwargs: &Kwargs::new() };
        self.leaf(leaf, covers, Place::Alone)
    }

    /// Runs a leaf; when it fails, every cover's error callbacks, the innermost first.
    fn leaf(&mut self, leaf: Leaf<'_>, covers: &Covers<'_>, place: Place) -> Result<Json, EagerFailure> {
        let ended = match (self.execute)(&leaf) {
            Ok(returned) => self.returned(returned, &leaf, place),
            Err(error) => Err(self.fail(&leaf, error)),
        };
        let failure = match ended {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        for cover in covers.iter().rev() {
            if cover.together.as_ref().is_some_and(|ran| ran.replace(true)) {
                continue;
            }
            for (errback, i) in cover.errbacks.iter().zip(0..) {
                self.call(errback, &cover.path.child(Segment::LinkError(i)), &failure.to_json());
            }
        }
        Err(failure)
    }

    /// What a leaf's value is, by what its task returned.
    fn returned(&mut self, returned: Returned, leaf: &Leaf<'_>, place: Place) -> Result<Json, EagerFailure> {
        match returned {
            Returned::Value(value) => Ok(value),
            Returned::Replace(canvas) => self.replacement(&canvas, leaf, place),
            Returned::Add(own, canvases) => self.addition(*own, &canvases, leaf, place),
        }
    }

    /// Runs a canvas in the place of a leaf.
    fn replacement(&mut self, canvas: &Canvas, leaf: &Leaf<'_>, place: Place) -> Result<Json, EagerFailure> {
        if leaf.call != Call::Once {
            return Err(
                self.fail(leaf, TaskError::new("ReplaceError", "an item of a map cannot be replaced"))
            );
        }
        self.check(canvas, leaf)?;
        let path = leaf.path.child(Segment::Replacement);
        let value = self.run(canvas, &path, None, &[], place)?;
        Ok(value.unwrap_or_else(Json::null))
    }

    /// Runs canvases beside a leaf, as members of the list that its value goes into.
    fn addition(
        &mut self,
        own: Returned,
        canvases: &[Canvas],
        leaf: &Leaf<'_>,
        place: Place,
    ) -> Result<Json, EagerFailure> {
        let Place::Item(policy) = place else {
            return Err(self.fail(leaf, TaskError::new("ValueError", "its value is no item of a list")));
        };
        let replacing = if let Returned::Replace(canvas) = &own { Some(canvas) } else { None };
        replacing.into_iter().chain(canvases).try_for_each(|canvas| self.check(canvas, leaf))?;
        let own = self.returned(own, leaf, place);
        let path = leaf.path.child(Segment::Replacement);
        let added = self.members(canvases, &path, Segment::Added, None, &[], policy);
        let (own, added) = (own?, added?);
        self.added.extend(added.to::<Vec<Json>>().expect("members come as a list"));
        Ok(own)
    }

    fn check(&mut self, canvas: &Canvas, leaf: &Leaf<'_>) -> Result<(), EagerFailure> {
        check(canvas, &Path::root())
            .map_err(|error| self.fail(leaf, TaskError::new("CompileError", error.to_string())))
    }

    fn fail(&mut self, leaf: &Leaf<'_>, error: TaskError) -> EagerFailure {
        let failure = EagerFailure { path: leaf.path.clone(), task: leaf.task.clone(), error };
        self.failures.push(failure.clone());
        failure
    }

    /// Runs a callback of either kind. It has its own callbacks only, and how it ends changes nothing.
    fn call(&mut self, callback: &Canvas, path: &Path, argument: &Json) {
        let failures = self.failures.len();
        let _dropped = self.run(callback, path, Some(argument), &[], Place::Alone);
        self.failures.truncate(failures);
    }
}

/// How a part has ended, as data.
fn entry(ended: Result<Option<&Json>, &EagerFailure>) -> Json {
    match ended {
        Ok(value) => Json::object([("ok", value.unwrap_or(&Json::null()))]),
        Err(failure) => Json::object([("error", &failure.to_json())]),
    }
}

impl EagerFailure {
    /// The failure object that error callbacks get. There are no task ids here: it is null.
    pub fn to_json(&self) -> Json {
        Json::object([
            ("task_id", &Json::null()),
            ("node", &Json::string(&self.path.to_string())),
            ("task", &Json::string(self.task.as_str())),
            ("state", &Json::string(TaskState::Failure.as_str())),
            ("error", &Json::new(&self.error).expect("texts have a JSON form")),
        ])
    }
}

#[cfg(test)]
mod tests;
