//! What a worker receives.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Completion, Incarnation, Json, LeafOptions, NodeNo, Outcome, RunRef, TaskId, TaskName};

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
    /// What comes before `args` as one more argument, when it is too large to travel with the message: its text in
    /// pieces, some of which the worker fetches. Empty for most.
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
}

/// A piece of a value's JSON text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// The text itself.
    Text(Arc<str>),
    /// The result of another leaf of the same run.
    Result(NodeNo),
    /// The same as an item of a list, with those that it has added.
    Item(NodeNo),
    /// The same as an item of a list that collects failures.
    Entry(NodeNo),
}

impl Piece {
    /// The leaf whose result it is.
    fn leaf(&self) -> Option<NodeNo> {
        match self {
            Self::Text(_) => None,
            Self::Result(node) | Self::Item(node) | Self::Entry(node) => Some(*node),
        }
    }

    /// Writes it; `None` when the result is not there.
    pub fn write<'r>(
        &self,
        out: &mut String,
        result: impl FnOnce(NodeNo) -> Option<&'r Outcome>,
    ) -> Option<()> {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Result(node) => out.push_str(result(*node)?.text()?),
            Self::Item(node) => result(*node)?.write_items(out)?,
            Self::Entry(node) => result(*node)?.write_entries(out)?,
        }
        Some(())
    }
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

    /// The leaves whose results the worker has to fetch, each once.
    pub fn references(&self) -> Vec<NodeNo> {
        let mut nodes: Vec<NodeNo> = self.input.iter().filter_map(Piece::leaf).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The message with its input among its arguments; `None` when a result is not there.
    pub fn resolve<'r>(&self, result: impl Fn(NodeNo) -> Option<&'r Outcome>) -> Option<TaskMessage> {
        let mut args = String::from("[");
        self.input.iter().try_for_each(|piece| piece.write(&mut args, &result))?;
        let bound = self.args.as_str().strip_prefix('[').unwrap_or("]");
        if bound != "]" {
            args.push(',');
        }
        args.push_str(bound);
        Some(Self { args: Json::from_compact(args), input: Vec::new(), ..self.clone() })
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
    use crate::{Failure, Item, Members, RunId, TaskError, TaskState};

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
        assert_eq!(message.references(), [one]);
        let outcome = Outcome::Success(Json::parse("[1]").unwrap());
        let whole = message.resolve(|_| Some(&outcome)).unwrap();
        assert_eq!((whole.args.as_str(), whole.input.len()), ("[[[1],7,[1]],8]", 0));
        let bare = TaskMessage { args: Json::parse("[]").unwrap(), ..message.clone() };
        assert_eq!(bare.resolve(|_| Some(&Outcome::Ignored)).unwrap().args.as_str(), "[[null,7,null]]");
        assert_eq!(message.resolve(|_| None), None);
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
            let message = TaskMessage { input, ..message };
            message.resolve(|_| Some(&outcome)).unwrap().args.to_string()
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
}
