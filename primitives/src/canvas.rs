//! The canvas: signatures put together.

use std::convert::Infallible;
use std::ops::BitOr;

use crate::{Json, Kwargs, Options, Signature, TaskName};

/// A workflow as data.
///
/// Seven forms, nested in any way. Nothing happens until somebody submits it; the same canvas may be
/// submitted many times.
///
/// Cloned, compared, written and dropped it takes no more of the stack the deeper it is. To take a part by
/// value, take it out of a reference, as with [`std::mem::take`]: a canvas is not destructured by value.
pub enum Canvas {
    /// One task.
    Signature(Signature),
    /// One after the other, each fed with the result of the one before.
    Chain(Chain),
    /// In parallel; the value is the list of the members' values.
    Group(Group),
    /// A group whose list of values feeds a body.
    Chord(Chord),
    /// One task that calls another for every item of a list, one after the other (map and starmap).
    Map(Map),
    /// A long list of argument lists, cut into parts that run in parallel.
    Chunks(Chunks),
}

/// Steps one after the other. The empty chain is the identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// The steps, first to last.
    pub steps: Vec<Canvas>,
    /// Options of the chain as a whole; `link` is for its last step, `link_error` for all of them.
    pub options: Options,
    /// Whether the chain ignores what comes before it (`chain.set(immutable=True)`).
    pub immutable: bool,
}

/// Members in parallel. A group is a list whatever its size; a group directly inside a group is flattened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The members, in the order of their values.
    pub members: Vec<Canvas>,
    /// Options of the group as a whole.
    pub options: Options,
}

/// A header of parallel members, and a body that is called once with the list of their values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chord {
    /// The header's members, in the order of their values.
    pub header: Vec<Canvas>,
    /// The body. Celery allows a chord without one until it is applied; so does this type, and compiling
    /// refuses it.
    pub body: Option<Box<Canvas>>,
    /// Options of the chord as a whole.
    pub options: Options,
}

/// Whether an item is one argument or a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// `task(item)` for each item.
    Map,
    /// `task(*item)` for each item.
    Starmap,
}

/// One leaf that calls a task for every item, one after the other. It ignores what comes before it.
///
/// As in Celery, the calls take their arguments from the items alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Map or starmap.
    pub kind: MapKind,
    /// The task to call.
    pub task: TaskName,
    /// One call each; for a starmap every item is a list of arguments.
    pub items: Vec<Json>,
    /// Options of the leaf.
    pub options: Options,
}

/// A starmap cut into parts of `size` items that run in parallel; its value is the list of the parts' lists.
///
/// (In Celery this holds only for a chunks object applied by itself; inside another canvas Celery's value is
/// a list of ids.)
#[derive(Clone, Debug, PartialEq)]
pub struct Chunks {
    /// The task to call.
    pub task: TaskName,
    /// One call each; every item is a list of arguments.
    pub items: Vec<Json>,
    /// How many items a part has; the last one may be shorter. Compiling refuses 0.
    pub size: usize,
    /// Options of every part.
    pub options: Options,
}

impl Canvas {
    /// This canvas, then the other: `self | next`.
    ///
    /// Chains without options are spliced, so that `(a | b) | c` and `a | (b | c)` are the same chain.
    #[must_use]
    pub fn then(self, next: impl Into<Canvas>) -> Canvas {
        let mut steps = self.into_steps();
        steps.append(&mut next.into().into_steps());
        Canvas::Chain(Chain { steps, ..Chain::default() })
    }

    fn into_steps(mut self) -> Vec<Canvas> {
        match &mut self {
            Canvas::Chain(chain) if chain.options.is_empty() && !chain.immutable => {
                std::mem::take(&mut chain.steps)
            }
            _ => vec![self],
        }
    }

    /// A chain of these steps, as written: nothing is spliced.
    pub fn chain(steps: impl IntoIterator<Item = Canvas>) -> Canvas {
        Canvas::Chain(Chain { steps: steps.into_iter().collect(), ..Chain::default() })
    }

    /// A group of these members.
    pub fn group(members: impl IntoIterator<Item = Canvas>) -> Canvas {
        Canvas::Group(Group { members: members.into_iter().collect(), ..Group::default() })
    }

    /// A chord. A header that is one group is that group's members, as in Celery; a chain in it is one
    /// member.
    pub fn chord(header: impl IntoIterator<Item = Canvas>, body: impl Into<Canvas>) -> Canvas {
        let header = header.into_iter().collect();
        Canvas::Chord(Chord { header, body: Some(Box::new(body.into())), ..Chord::default() })
    }

    /// A map: the task called for each item, one after the other, in one leaf.
    pub fn map(task: TaskName, items: impl IntoIterator<Item = Json>) -> Canvas {
        let items = items.into_iter().collect();
        Canvas::Map(Map { kind: MapKind::Map, task, items, options: Options::new() })
    }

    /// A starmap: the task called with each list of arguments, one after the other, in one leaf.
    pub fn starmap(task: TaskName, items: impl IntoIterator<Item = Json>) -> Canvas {
        let items = items.into_iter().collect();
        Canvas::Map(Map { kind: MapKind::Starmap, task, items, options: Options::new() })
    }

    /// Chunks: a starmap in parts of `size` items that run in parallel.
    pub fn chunks(task: TaskName, items: impl IntoIterator<Item = Json>, size: usize) -> Canvas {
        Canvas::Chunks(Chunks { task, items: items.into_iter().collect(), size, options: Options::new() })
    }

    /// The options of the outermost canvas.
    pub fn options(&self) -> &Options {
        match self {
            Canvas::Signature(signature) => &signature.options,
            Canvas::Chain(chain) => &chain.options,
            Canvas::Group(group) => &group.options,
            Canvas::Chord(chord) => &chord.options,
            Canvas::Map(map) => &map.options,
            Canvas::Chunks(chunks) => &chunks.options,
        }
    }

    /// The options of the outermost canvas, to change them.
    pub fn options_mut(&mut self) -> &mut Options {
        match self {
            Canvas::Signature(signature) => &mut signature.options,
            Canvas::Chain(chain) => &mut chain.options,
            Canvas::Group(group) => &mut group.options,
            Canvas::Chord(chord) => &mut chord.options,
            Canvas::Map(map) => &mut map.options,
            Canvas::Chunks(chunks) => &mut chunks.options,
        }
    }

    /// Adds a callback that gets the canvas's result.
    ///
    /// Where Celery puts it: on a signature, map or chain itself (a chain's callback runs after its last
    /// step), on a chord's body, and on the first member of a group, where it is made immutable.
    pub fn link(&mut self, mut callback: Canvas) {
        let mut canvas = self;
        loop {
            match canvas {
                Canvas::Group(group) => {
                    let Some(first) = group.members.first_mut() else { return };
                    callback = callback.into_immutable();
                    canvas = first;
                }
                Canvas::Chord(Chord { body: Some(body), .. }) => canvas = body,
                other => return other.options_mut().add_link(callback),
            }
        }
    }

    /// Adds an error callback. It stands in the options of the outermost canvas; what it covers is decided
    /// when the canvas is compiled: once per failing member of a group, once for a chord whose header fails.
    pub fn link_error(&mut self, errback: Canvas) {
        self.options_mut().add_link_error(errback);
    }

    /// Adds what runs when this canvas has ended, once and either way: with the one argument `{"ok": value}`
    /// when it has succeeded, and `{"error": failure}` as soon as it is known to fail. How that ends changes
    /// nothing else.
    ///
    /// It is ours; Celery has nothing like it. A canvas that was never started, because what comes before it
    /// failed, has not ended.
    pub fn finally(&mut self, last: Canvas) {
        self.options_mut().add_finally(last);
    }

    /// Stamps every task of this canvas, callbacks included (Celery's `stamp`): each can read the value under
    /// this name. A stamp that is there keeps its value.
    pub fn stamp(&mut self, name: &str, value: &Json) {
        let Ok(()) = self.try_change_all(|canvas| {
            if let Canvas::Signature(_) | Canvas::Map(_) | Canvas::Chunks(_) = canvas {
                canvas.options_mut().add_stamp(name, value);
            }
            Ok::<(), Infallible>(())
        });
    }

    /// This canvas without any interest in what comes before it: `.si` for all that would be fed.
    #[must_use]
    pub fn into_immutable(mut self) -> Canvas {
        let mut todo = vec![&mut self];
        while let Some(canvas) = todo.pop() {
            match canvas {
                Canvas::Signature(signature) => signature.immutable = true,
                Canvas::Chain(chain) => chain.immutable = true,
                Canvas::Group(Group { members, .. }) | Canvas::Chord(Chord { header: members, .. }) => {
                    todo.extend(members);
                }
                Canvas::Map(_) | Canvas::Chunks(_) => {}
            }
        }
        self
    }

    /// Binds the arguments of a call where Celery puts them: prepended to the first leaf of a chain, to every
    /// member of a group and to every header member of a chord. Immutable signatures, maps and chunks take
    /// none.
    pub fn bind(&mut self, args: &[Json], kwargs: &Kwargs) {
        let mut todo = vec![self];
        while let Some(canvas) = todo.pop() {
            match canvas {
                Canvas::Signature(signature) if !signature.immutable => {
                    signature.args.splice(0..0, args.iter().cloned());
                    signature.kwargs.extend(kwargs.iter().map(|(name, value)| (name.clone(), value.clone())));
                }
                Canvas::Chain(chain) if !chain.immutable => {
                    todo.extend(chain.steps.iter_mut().find(|step| !step.is_identity()));
                }
                Canvas::Group(Group { members, .. }) | Canvas::Chord(Chord { header: members, .. }) => {
                    todo.extend(members);
                }
                Canvas::Signature(_) | Canvas::Chain(_) | Canvas::Map(_) | Canvas::Chunks(_) => {}
            }
        }
    }

    /// Whether this is an empty chain, or a chain of such: it hands on what it gets.
    pub fn is_identity(&self) -> bool {
        let (mut todo, mut next) = (Vec::new(), Some(self));
        while let Some(canvas) = next {
            let Canvas::Chain(chain) = canvas else { return false };
            if !chain.steps.iter().all(|step| matches!(step, Canvas::Chain(_))) {
                return false;
            }
            todo.extend(&chain.steps);
            next = todo.pop();
        }
        true
    }

    /// Every call of a task in this canvas, callbacks included: its name and the options set on the call.
    pub fn calls(&self) -> impl Iterator<Item = (&TaskName, &Options)> {
        let mut todo = vec![self];
        let canvases = std::iter::from_fn(move || {
            let canvas = todo.pop()?;
            todo.extend(canvas.parts());
            Some(canvas)
        });
        canvases.filter_map(|canvas| match canvas {
            Canvas::Signature(Signature { task, options, .. })
            | Canvas::Map(Map { task, options, .. })
            | Canvas::Chunks(Chunks { task, options, .. }) => Some((task, options)),
            Canvas::Chain(_) | Canvas::Group(_) | Canvas::Chord(_) => None,
        })
    }

    /// Changes every task name in this canvas, callbacks included.
    ///
    /// # Errors
    /// The first that `rename` returns.
    pub fn rename<E>(&mut self, rename: &mut impl FnMut(&TaskName) -> Result<TaskName, E>) -> Result<(), E> {
        self.try_change_all(|canvas| {
            if let Canvas::Signature(Signature { task, .. })
            | Canvas::Map(Map { task, .. })
            | Canvas::Chunks(Chunks { task, .. }) = canvas
            {
                *task = rename(task)?;
            }
            Ok(())
        })
    }
}

impl From<Signature> for Canvas {
    fn from(signature: Signature) -> Self {
        Canvas::Signature(signature)
    }
}

impl<C: Into<Canvas>> BitOr<C> for Canvas {
    type Output = Canvas;
    /// [`Canvas::then`].
    fn bitor(self, next: C) -> Canvas {
        self.then(next)
    }
}

impl<C: Into<Canvas>> BitOr<C> for Signature {
    type Output = Canvas;
    /// [`Canvas::then`].
    fn bitor(self, next: C) -> Canvas {
        Canvas::from(self).then(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sig(name: &str) -> Canvas {
        Canvas::Signature(Signature::new(name).unwrap())
    }

    #[test]
    fn pipes_splice_plain_chains() {
        let left = sig("a").then(sig("b")).then(sig("c"));
        let right = sig("a").then(sig("b").then(sig("c")));
        assert_eq!(left, right);
        let piped = Signature::new("a").unwrap() | Signature::new("b").unwrap() | sig("c");
        assert_eq!(piped, left);
        let mut kept = sig("a").then(sig("b"));
        kept.options_mut().set("queue", Json::string("q")).unwrap();
        assert_eq!(kept.clone().then(sig("c")), Canvas::chain([kept, sig("c")]));
    }

    #[test]
    fn a_group_links_its_first_member_without_arguments() {
        let mut group = Canvas::group([sig("a"), sig("b")]);
        group.link(sig("cb"));
        let mut first = sig("a");
        first.link(sig("cb").into_immutable());
        assert_eq!(group, Canvas::group([first, sig("b")]));
    }

    #[test]
    fn linking_the_same_callback_twice_keeps_one() {
        let mut canvas = sig("a");
        canvas.link(sig("cb"));
        canvas.link(sig("cb"));
        assert_eq!(canvas.options().link().len(), 1);
    }

    #[test]
    fn a_stamp_reaches_every_task_and_keeps_what_is_there() {
        let mut early = sig("a");
        early.stamp("order", &Json::new(&1).unwrap());
        let mut canvas = Canvas::chord([early, sig("b").then(sig("c"))], sig("d"));
        canvas.link_error(sig("e"));
        canvas.stamp("order", &Json::new(&2).unwrap());
        let text = canvas.to_json();
        assert_eq!(text.matches("\"order\":2").count(), 4, "{text}");
        assert_eq!(text.matches("\"order\":1").count(), 1, "{text}");
        assert_eq!(text.matches("\"stamped_headers\":[\"order\"]").count(), 5, "{text}");
    }

    #[test]
    fn bound_arguments_go_to_the_first_leaf_and_past_empty_chains() {
        let ten = [Json::new(&10).unwrap()];
        let mut canvas = Canvas::chain([
            Canvas::chain([]),
            Canvas::group([sig("a"), sig("b").into_immutable()]),
            sig("c"),
        ]);
        canvas.bind(&ten, &Kwargs::new());
        assert_eq!(canvas.to_string(), "chain(chain(), group(a.s(10), b.si()), c.s())");
    }
}
