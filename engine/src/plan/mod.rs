//! The plan: a canvas compiled into a DAG of nodes and a tree of scopes.
//!
//! A node is a leaf, which a worker runs, or a join, which only collects. Edges say who waits for whom: a
//! data edge hands a result on, an after edge only orders. Failure does not travel along edges: every node
//! knows its innermost scope, and a failure closes the scopes from there up to the root, which is the run.

mod codec;
mod compose;
mod defaults;
mod graph;
mod listing;
mod lower;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use celeriac_primitives::{
    Call, Canvas, Json, LeafOptions, LimitError, Limits, NodeNo, OnFailure, OptionError, Path, RunRef,
    Segment, Stored, TaskName, argument_bytes,
};
use petgraph::graph::DiGraph;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use codec::PlanError;
pub use compose::{Composer, NotWritten, Referring, Results, retry_of};
pub use defaults::{Defaults, OfTask, RunOptions};
pub use graph::Edge;
pub use value::{After, Value};

/// The number of a scope in its plan; 0 is the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeNo(u32);

/// A canvas, compiled.
///
/// Node numbers are stable: they depend on the canvas alone. Predecessors have smaller numbers than their
/// successors.
#[derive(Clone, Debug)]
pub struct Plan {
    parts: Parts,
    /// Built from the parts; its indexes are those of `parts.nodes` and never leave the process.
    graph: DiGraph<(), Edge, u32>,
    /// How many predecessors each node counts down, its gate included.
    waits: Vec<u32>,
    /// The nodes for which the closing of a scope counts.
    gated: Vec<Vec<NodeNo>>,
    /// The nodes whose success is the run's success.
    outputs: Vec<NodeNo>,
    is_output: Vec<bool>,
}

/// What of a plan is stored; everything else follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Parts {
    tasks: Vec<TaskName>,
    queues: Vec<Arc<str>>,
    options: Vec<Arc<LeafOptions>>,
    nodes: Vec<Node>,
    scopes: Vec<Scope>,
    /// A tree: each place is one segment below its parent; place 0 is the outermost canvas.
    places: Vec<Place>,
    output: Value,
}

/// One node of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it does.
    pub kind: NodeKind,
    /// The value it takes: prepended to a leaf's arguments, or collected by a join.
    pub input: Option<Value>,
    /// What it waits for besides.
    pub after: After,
    /// Its innermost scope: the first that its failure closes.
    pub scope: ScopeNo,
    place: u32,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeKind {
    /// Calls a task.
    Leaf(Leaf),
    /// Collects its input; it completes in the step that completes the last of its predecessors.
    Join,
}

/// The call of a leaf.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaf {
    task: u32,
    queue: Option<u32>,
    options: Option<u32>,
    /// Once, or per item.
    pub call: Call,
    /// The bound arguments as JSON items without the brackets: `4,8`.
    pub args: Arc<str>,
    /// The keyword arguments, a JSON object.
    pub kwargs: Arc<str>,
    /// The policy of the list of which its value is an item, when it is one. Then its task may add others.
    #[serde(default)]
    pub member: Option<OnFailure>,
    /// What of the arguments is kept apart from the plan, because it is large; `args` and `kwargs` are empty
    /// then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<Box<Literals>>,
}

impl fmt::Debug for Leaf {
    /// Without the arguments: they are somebody's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, queue, options, call, args, kwargs, member, apart } = self;
        let bytes = args.len() + kwargs.len();
        let mut leaf = f.debug_struct("Leaf");
        leaf.field("task", task).field("queue", queue).field("options", options).field("call", call);
        leaf.field("bytes", &bytes).field("member", member).field("apart", apart).finish()
    }
}

/// Arguments that are kept apart from the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Literals {
    /// The items of the list.
    pub args: Option<Literal>,
    /// The object.
    pub kwargs: Option<Literal>,
}

/// A text of a canvas that is kept apart from the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Literal {
    /// Its name, which follows from the text.
    pub name: Uuid,
    /// How many bytes it has.
    pub bytes: u64,
}

/// What a failure inside closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The scope around it; the root is its own parent.
    pub parent: ScopeNo,
    /// What closing means.
    pub kind: ScopeKind,
}

/// What it means that a scope is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScopeKind {
    /// The run has failed.
    Root,
    /// Its error callbacks are released, and the failure goes on to the parent.
    Errback,
    /// What runs in either case is released, and the failure goes on to the parent.
    Finally,
    /// A member whose failure is tolerated: that ends here, and counts in the place of the member's success.
    Absorb,
    /// A callback or an error callback: its failure is recorded and changes nothing else.
    Detached,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    parent: u32,
    segment: Option<Segment>,
}

/// What runs in the place of a leaf: a canvas, or the leaf's own value, and the canvases that it adds to the
/// list which its value goes into.
#[derive(Clone, Copy, Debug)]
pub struct Expansion<'c> {
    /// What the leaf's own value comes from.
    pub own: Source<'c>,
    /// What it adds.
    pub added: &'c [Canvas],
    /// The policy of that list.
    pub member: Option<OnFailure>,
}

/// What a leaf's own value comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'c> {
    /// It is this.
    Value(&'c Json),
    /// This canvas yields it.
    Canvas(&'c Canvas),
    /// It is this, which is kept apart.
    Apart(Stored),
}

/// A canvas that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Too large, or an option that does not fit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A chord without a body.
    #[error("{path}: this chord has no body; write chord(header, body)")]
    NoBody {
        /// The chord.
        path: Path,
    },
    /// Chunks of no items.
    #[error("{path}: chunks need a size of at least 1")]
    ChunkSize {
        /// The chunks.
        path: Path,
    },
    /// An item of a starmap or of chunks that is no list of arguments.
    #[error(
        "{path}: item {index} is {item}, but every item of a starmap is a list of arguments: write [{item}]"
    )]
    StarmapItem {
        /// The starmap or chunks.
        path: Path,
        /// The place of the item, from 0.
        index: usize,
        /// The item, cut to 80 characters.
        item: String,
    },
    /// A policy for the members of something that has none.
    #[error(
        "{path}: on_failure is for groups and chords; write group(…).set(on_failure=\"drop\") around what may fail"
    )]
    OnFailure {
        /// The canvas that has it.
        path: Path,
    },
    /// An option whose value does not fit.
    #[error("{path}: {source}")]
    OptionValue {
        /// The canvas that has it.
        path: Path,
        /// Which option, and what it takes.
        source: OptionError,
    },
    /// Lists of lists that double with every step.
    #[error(
        "{path}: the value collected here would have more than {max} items; a list that goes to every member of a \
         group is repeated in the group's list: let a task shorten it in between"
    )]
    ValueSize {
        /// Where it is collected.
        path: Path,
        /// The limit.
        max: usize,
    },
}

impl Plan {
    /// Compiles a canvas within the usual limits.
    ///
    /// # Errors
    /// See [`CompileError`]; every error names the path of what is wrong.
    pub fn compile(canvas: &Canvas) -> Result<Plan, CompileError> {
        Self::compile_within(canvas, &Limits::default())
    }

    /// Compiles a canvas within limits of the caller's.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub fn compile_within(canvas: &Canvas, limits: &Limits) -> Result<Plan, CompileError> {
        Self::compile_with(canvas, limits, Defaults::none())
    }

    /// Compiles a canvas, with options for leaves that do not set their own.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub fn compile_with(
        canvas: &Canvas,
        limits: &Limits,
        defaults: Defaults<'_>,
    ) -> Result<Plan, CompileError> {
        let own = Source::Canvas(canvas);
        let alone = Expansion { own, added: &[], member: None };
        Self::compile_expansion(alone, limits, defaults)
    }

    /// Compiles what runs in the place of a leaf. When something is added, the value is the list of the
    /// leaf's own value and of what is added: see [`Plan::expanded`].
    ///
    /// # Errors
    /// See [`CompileError`].
    pub fn compile_expansion(
        expansion: Expansion<'_>,
        limits: &Limits,
        defaults: Defaults<'_>,
    ) -> Result<Plan, CompileError> {
        if let Source::Canvas(canvas) = expansion.own {
            limits.check(canvas)?;
        }
        expansion.added.iter().try_for_each(|canvas| limits.check(canvas))?;
        let parts = lower::lower(expansion, limits.nodes_max, defaults)?;
        parts.check_options(limits.options_bytes_max)?;
        let (bytes, max) = (parts.argument_bytes().1 + parts.option_bytes().1, limits.plan_bytes_max);
        if bytes > max as u64 {
            return Err(LimitError::PlanBytes { bytes, max }.into());
        }
        let (count, max) = (parts.queues.len(), limits.queues_max);
        if count > max {
            return Err(LimitError::Queues { count, max }.into());
        }
        Plan::build(parts, limits.nodes_max)
    }

    /// Takes arguments that are longer than this out of the plan: they are to be stored beside it. `name`
    /// names a text after its content. What stands in several places is taken once.
    pub fn take_apart(&mut self, bytes_max: usize, name: impl Fn(&str) -> Uuid) -> Vec<(Uuid, Arc<str>)> {
        let mut taken: BTreeMap<Uuid, Arc<str>> = BTreeMap::new();
        for node in &mut self.parts.nodes {
            let NodeKind::Leaf(leaf) = &mut node.kind else { continue };
            if leaf.args.len() <= bytes_max && leaf.kwargs.len() <= bytes_max {
                continue;
            }
            let mut apart = leaf.apart.as_deref().copied().unwrap_or_default();
            for (text, place, rest) in
                [(&mut leaf.args, &mut apart.args, ""), (&mut leaf.kwargs, &mut apart.kwargs, "{}")]
            {
                if text.len() > bytes_max {
                    let literal = Literal { name: name(text), bytes: text.len() as u64 };
                    *place = Some(literal);
                    taken.insert(literal.name, std::mem::replace(text, rest.into()));
                }
            }
            leaf.apart = Some(Box::new(apart));
        }
        taken.into_iter().collect()
    }

    /// How many bytes of arguments the leaf has that has most, and how many all have together.
    pub fn argument_bytes(&self) -> (u64, u64) {
        self.parts.argument_bytes()
    }

    /// How many bytes of options the leaf has that has most, and how many all that differ have together.
    pub fn option_bytes(&self) -> (u64, u64) {
        self.parts.option_bytes()
    }

    /// About how many bytes it takes in memory.
    pub fn weight(&self) -> usize {
        const NODE: usize = size_of::<Node>() + size_of::<Place>() + size_of::<Value>() + 32;
        const EDGE: usize = 32;
        let texts = self.parts.argument_bytes().1 + self.parts.option_bytes().1;
        self.len() * NODE + self.graph.edge_count() * EDGE + texts as usize
    }

    /// How many nodes there are, joins included.
    pub fn len(&self) -> usize {
        self.parts.nodes.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.parts.nodes.is_empty()
    }

    /// A node, or `None` when the plan has no such number.
    pub fn node(&self, node: NodeNo) -> Option<&Node> {
        self.parts.nodes.get(node.index())
    }

    /// All nodes with their numbers, in order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeNo, &Node)> {
        self.parts.nodes.iter().enumerate().map(|(i, node)| (NodeNo::from_index(i), node))
    }

    /// The task of a leaf; `None` for a join or an unknown number.
    pub fn task(&self, node: NodeNo) -> Option<&TaskName> {
        self.leaf(node).map(|leaf| &self.parts.tasks[leaf.task as usize])
    }

    /// The queue that a leaf asks for.
    pub fn queue(&self, node: NodeNo) -> Option<&Arc<str>> {
        self.leaf(node)?.queue.map(|queue| &self.parts.queues[queue as usize])
    }

    /// What was said about how a leaf is to be run, when something was.
    pub fn options(&self, node: NodeNo) -> Option<&Arc<LeafOptions>> {
        self.leaf(node)?.options.map(|options| &self.parts.options[options as usize])
    }

    /// The call of a leaf; `None` for a join or an unknown number.
    pub fn leaf(&self, node: NodeNo) -> Option<&Leaf> {
        match &self.node(node)?.kind {
            NodeKind::Leaf(leaf) => Some(leaf),
            NodeKind::Join => None,
        }
    }

    /// The queues that leaves of the plan ask for, each once.
    pub fn queues(&self) -> &[Arc<str>] {
        &self.parts.queues
    }

    /// The names of all tasks that the plan calls, each once.
    pub fn tasks(&self) -> &[TaskName] {
        &self.parts.tasks
    }

    /// Where in the canvas a node stands.
    ///
    /// # Panics
    /// When the plan has no such node.
    pub fn path(&self, node: NodeNo) -> Path {
        self.parts.path(self.parts.nodes[node.index()].place)
    }

    /// The scopes, the root first.
    pub fn scopes(&self) -> impl ExactSizeIterator<Item = (ScopeNo, &Scope)> {
        self.parts.scopes.iter().enumerate().map(|(i, scope)| (ScopeNo(i as u32), scope))
    }

    /// A scope of this plan.
    pub fn scope(&self, scope: ScopeNo) -> &Scope {
        &self.parts.scopes[scope.index()]
    }

    /// What the run yields.
    pub fn output(&self) -> &Value {
        &self.parts.output
    }

    /// The items of a value that is a list, also of one that stands behind a join.
    pub fn list<'p>(&'p self, value: &'p Value) -> Option<&'p [Value]> {
        match value {
            Value::List(items) => Some(items),
            Value::Node(node) => match self.node(*node)? {
                Node { kind: NodeKind::Join, input: Some(input), .. } => self.list(input),
                _ => None,
            },
            Value::Const(..) | Value::Apart(_) | Value::Failure(_) | Value::Entry(..) | Value::Kept(..) => {
                None
            }
        }
    }

    /// Whether a node stands in a scope, or in one inside it.
    ///
    /// # Panics
    /// When the plan has no such node.
    pub fn fails_in(&self, node: NodeNo, scope: ScopeNo) -> bool {
        is_inside(&self.parts.scopes, self.parts.nodes[node.index()].scope, scope)
    }

    /// The nodes whose success is the success of the run, each once.
    pub fn outputs(&self) -> &[NodeNo] {
        &self.outputs
    }

    /// Whether the run's value needs this node.
    ///
    /// # Panics
    /// When the plan has no such node.
    pub fn is_output(&self, node: NodeNo) -> bool {
        self.is_output[node.index()]
    }
}

impl Parts {
    /// How many bytes of arguments the leaf has that has most, and how many all have together.
    fn argument_bytes(&self) -> (u64, u64) {
        let bytes = self.nodes.iter().filter_map(Node::leaf).map(Leaf::bytes);
        bytes.fold((0, 0), |(most, all), bytes| (most.max(bytes), all + bytes))
    }

    /// How many bytes of options the leaf has that has most, and how many all that differ have together.
    fn option_bytes(&self) -> (u64, u64) {
        let bytes = self.options.iter().map(|options| options.weight() as u64);
        bytes.fold((0, 0), |(most, all), bytes| (most.max(bytes), all + bytes))
    }

    /// Refuses options that are too long to travel.
    fn check_options(&self, max: usize) -> Result<(), LimitError> {
        let Some(over) = self.options.iter().position(|options| options.weight() > max) else {
            return Ok(());
        };
        let has_them = |node: &&Node| node.leaf().and_then(|leaf| leaf.options) == Some(over as u32);
        let path = self.nodes.iter().find(has_them).map(|node| self.path(node.place)).unwrap_or_default();
        Err(LimitError::OptionBytes { path, bytes: self.options[over].weight(), max })
    }

    fn path(&self, mut place: u32) -> Path {
        let mut segments = Vec::new();
        while let Place { parent, segment: Some(segment) } = self.places[place as usize] {
            segments.push(segment);
            place = parent;
        }
        segments.into_iter().rev().collect()
    }
}

impl Node {
    fn leaf(&self) -> Option<&Leaf> {
        if let NodeKind::Leaf(leaf) = &self.kind { Some(leaf) } else { None }
    }
}

impl Leaf {
    /// Whether something of its arguments is kept apart from the plan.
    pub fn is_apart(&self) -> bool {
        self.apart.is_some()
    }

    /// How many bytes its arguments have, as its limit counts them.
    pub fn bytes(&self) -> u64 {
        let apart = self.apart.as_deref().copied().unwrap_or_default();
        let one =
            |apart: Option<Literal>, here: &str| apart.map_or(here.len() as u64, |literal| literal.bytes);
        // The positional ones have no brackets here.
        argument_bytes(one(apart.args, &self.args) + 2, one(apart.kwargs, &self.kwargs))
    }
}

impl Literal {
    /// Where it is stored.
    pub fn stored(self, run: RunRef) -> Stored {
        Stored { run, name: self.name, bytes: self.bytes, of_plan: true }
    }
}

impl ScopeKind {
    /// Whether a failure that closes such a scope goes on to the one around it.
    pub fn goes_on(self) -> bool {
        match self {
            Self::Errback | Self::Finally => true,
            Self::Root | Self::Detached | Self::Absorb => false,
        }
    }
}

impl ScopeNo {
    /// The run itself.
    pub const ROOT: ScopeNo = ScopeNo(0);

    /// The place in the plan's list of scopes.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("plans are limited to fewer than 2^32 scopes"))
    }
}

fn is_inside(scopes: &[Scope], mut inner: ScopeNo, outer: ScopeNo) -> bool {
    while inner > outer {
        // Scopes come after those around them.
        inner = scopes[inner.index()].parent;
    }
    inner == outer
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

#[cfg(test)]
pub(crate) mod tests;
