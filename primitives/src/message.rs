//! What a worker receives.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Completion, Incarnation, Json, LeafOptions, NodeNo, Outcome, Part, Piece, RunRef, Stored, TaskId,
    TaskName,
};

/// One attempt at one leaf, ready to run: name and arguments, and nothing of the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMessage {
    /// The run and node this is a leaf of.
    pub task_id: TaskId,
    /// Which attempt at the leaf this is: 1, 2, 3, …
    pub attempt: u32,
    /// The task to run.
    pub task: TaskName,
    /// How the arguments are to be read.
    pub call: Call,
    /// The positional arguments, a JSON list; for a map the list of items.
    pub args: Json,
    /// The keyword arguments, a JSON object.
    pub kwargs: Json,
    /// What comes before `args`, when it is too large to travel with the message: one more argument, or
    /// several with commas between them, as text in pieces, some of which the worker fetches. Empty for most.
    #[serde(default)]
    pub input: Vec<Piece>,
    /// How it is to be run, when something about that was said.
    #[serde(default)]
    pub options: Option<Arc<LeafOptions>>,
    /// Whether a retry has put other arguments in the place of those of the canvas.
    #[serde(default)]
    pub replaced: bool,
    /// Since when workers that do not know the task have let it wait for others, in milliseconds since 1970.
    #[serde(default)]
    pub unknown_since_ms: Option<u64>,
    /// Whether its value is an item of a list, so that the task may add others.
    #[serde(default)]
    pub member: bool,
    /// Which of the runs that ever had the id in `task_id`.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// The keyword arguments, when they are too large to travel with the message.
    #[serde(default)]
    pub named: Option<Box<Stored>>,
}

impl TaskMessage {
    /// A message with all its arguments in it, and of whose running nothing was said.
    pub fn new(task_id: TaskId, attempt: u32, task: TaskName, call: Call, args: Json, kwargs: Json) -> Self {
        Self {
            task_id,
            attempt,
            task,
            call,
            args,
            kwargs,
            input: Vec::new(),
            options: None,
            replaced: false,
            unknown_since_ms: None,
            member: false,
            incarnation: Incarnation::default(),
            named: None,
        }
    }

    /// The run this is a leaf of.
    pub fn run(&self) -> RunRef {
        self.task_id.run().incarnation(self.incarnation)
    }

    /// A report that this attempt ended thus.
    pub fn completion(&self, outcome: Outcome) -> Completion {
        let Self { task_id, attempt, incarnation, .. } = *self;
        Completion { task_id, attempt, outcome, incarnation }
    }

    /// About how many bytes it takes to carry it.
    pub fn weight(&self) -> usize {
        let input = self.input.iter().map(Piece::weight).sum::<usize>();
        let options = self.options.as_ref().map_or(0, |options| options.weight());
        self.args.as_str().len() + self.kwargs.as_str().len() + input + options
    }

    /// Whether something of its arguments has to be fetched.
    pub fn is_apart(&self) -> bool {
        !self.input.is_empty() || self.named.is_some()
    }

    /// The text of all positional arguments in parts, what is to be fetched among them; `None` when a result
    /// is not there.
    pub fn arguments<'r>(
        &'r self,
        result: &impl Fn(RunRef, NodeNo) -> Option<&'r Outcome>,
    ) -> Option<Vec<Part<'r>>> {
        let run = self.run();
        let mut parts = vec![Part::Text(Cow::Borrowed("["))];
        self.input.iter().try_for_each(|piece| piece.parts(run, result, &mut parts))?;
        let bound = self.args.as_str().strip_prefix('[').unwrap_or("]");
        if bound != "]" && !self.input.is_empty() {
            parts.push(Part::Text(Cow::Borrowed(",")));
        }
        parts.push(Part::Text(Cow::Borrowed(bound)));
        Some(parts)
    }

    /// The message with all its arguments in it.
    #[must_use]
    pub fn with_arguments(&self, args: Json, kwargs: Json) -> TaskMessage {
        Self { args, kwargs, input: Vec::new(), named: None, ..self.clone() }
    }
}

/// How often a leaf calls its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Call {
    /// Once, with `args` and `kwargs`.
    Once,
    /// Once per item of `args`, with the item as the only argument.
    Map,
    /// Once per item of `args`, with the item as the list of arguments.
    Starmap,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Apart, Failure, Item, Members, Rope, RunId, TaskError, TaskState};

    /// The arguments; what is stored stands there as its number of bytes.
    fn written(message: &TaskMessage, outcome: &Outcome) -> String {
        joined(message.arguments(&|_, _| Some(outcome)).unwrap())
    }

    fn joined(parts: Vec<Part<'_>>) -> String {
        let text = |part| match part {
            Part::Text(text) => text.into_owned(),
            Part::Stored(stored) => format!("<{}>", stored.bytes),
        };
        parts.into_iter().map(text).collect()
    }

    #[test]
    fn an_input_by_reference_comes_before_the_arguments() {
        let [one, two] = [0, 1].map(NodeNo::from_index);
        let text = |text: &str| Piece::Text(text.into());
        let (leaf, task) = (RunId::from_parts(1, 2).task(two), TaskName::new("body").unwrap());
        let [args, kwargs] = ["[8]", "{}"].map(|text| Json::parse(text).unwrap());
        let message = TaskMessage {
            input: vec![text("["), Piece::Result(one), text(",7,"), Piece::Result(one), text("]")],
            ..TaskMessage::new(leaf, 1, task, Call::Once, args, kwargs)
        };
        let outcome = Outcome::Success(Json::parse("[1]").unwrap());
        assert_eq!(written(&message, &outcome), "[[[1],7,[1]],8]");
        let bare = TaskMessage { args: Json::parse("[]").unwrap(), ..message.clone() };
        assert_eq!(written(&bare, &Outcome::Ignored), "[[null,7,null]]");
        assert_eq!(message.arguments(&|_, _| None), None);
    }

    #[test]
    fn an_item_of_a_list_brings_those_that_it_has_added() {
        let node = NodeNo::from_index(0);
        let (leaf, task) = (RunId::from_parts(1, 2).task(node), TaskName::new("body").unwrap());
        let [args, kwargs, value, one] = ["[]", "{}", "[1]", "1"].map(|text| Json::parse(text).unwrap());
        let failure = Failure {
            task_id: leaf,
            node: "header[0]".to_owned(),
            task: task.clone(),
            state: TaskState::Failure,
            error: TaskError::new("ValueError", "boom"),
        };
        let added = vec![Item::Value(one), Item::Failure(Box::new(failure)), Item::Value(Json::null())];
        let outcome = Outcome::Members(Box::new(Members { value, added }));
        let resolve = |piece: Piece| {
            let input = vec![Piece::Text("[".into()), piece, Piece::Text("]".into())];
            let message = TaskMessage::new(leaf, 1, task.clone(), Call::Once, args.clone(), kwargs.clone());
            written(&TaskMessage { input, ..message }, &outcome)
        };
        assert_eq!(resolve(Piece::Result(node)), "[[[1]]]");
        for (piece, start) in [
            (Piece::Item(node), r#"[[[1],1,{"error":{"task_id":"#),
            (Piece::Entry(node), r#"[[{"ok":[1]},1,{"error":{"task_id":"#),
        ] {
            let items = resolve(piece);
            assert!(items.starts_with(start) && items.ends_with("},null]]"), "{items}");
        }
    }

    #[test]
    fn a_value_that_is_kept_apart_stands_where_it_would_stand() {
        let [here, there] = [1, 3].map(|n| RunId::from_parts(n, 2).incarnation(Incarnation::new(n)));
        let (node, task) = (NodeNo::from_index(0), TaskName::new("body").unwrap());
        let stored = |bytes| Stored { run: here, name: uuid::Uuid::from_u128(7), bytes, of_plan: false };
        let [args, kwargs] = ["[]", "{}"].map(|text| Json::parse(text).unwrap());
        let pieces = vec![Piece::Of(there, Box::new(Piece::Result(node)))];
        let value = Rope { bytes: 100, pieces };
        let outcome = Outcome::Apart(Box::new(Apart { value, added: Some(Rope::stored(stored(20))) }));
        let inner = Outcome::stored(stored(100));
        for (piece, expect, bytes) in [
            (Piece::Result(node), "[<100>]", 100),
            (Piece::Item(node), "[<100>,<20>]", 121),
            (Piece::Entry(node), "[{\"ok\":<100>},<20>]", 128),
            (Piece::Stored(stored(5)), "[<5>]", 5),
        ] {
            assert_eq!(piece.bytes(|_| Some(&outcome)), Some(bytes));
            let message =
                TaskMessage::new(here.task(node), 1, task.clone(), Call::Once, args.clone(), kwargs.clone());
            let message = TaskMessage { input: vec![piece], incarnation: here.incarnation, ..message };
            let result = |run, _| Some(if run == there { &inner } else { &outcome });
            assert_eq!(joined(message.arguments(&result).unwrap()), expect);
        }
    }
}
