//! Lowering: from a canvas to the nodes and scopes of a plan.
//!
//! It works like the building of SSA form: lowering a canvas with what comes before it adds nodes and
//! returns what comes after: the value that the canvas yields, or, for an empty chain, just what it was
//! given. A signature is a leaf; a chain is a fold; a group is a list, every member with the same
//! input; a chord is its header, then its body with the header's list.
//!
//! An error callback opens a scope around what it covers, and its own nodes are gated by that scope.
//! What it covers follows Celery's counts: a leaf, once; a group, each member for itself; a chain, once
//! for its steps, but a group at its end each member for itself; a chord, once for its header, and its
//! body like any canvas. What is attached to a chord's body covers the header as well, since that is
//! where Celery keeps the error callbacks of a chord.
//!
//! A member whose failure is tolerated (`on_failure`) stands in a scope of its own that absorbs the
//! failure. Its success is that of exactly one node, a join where it has several or none; so either
//! that node counts toward the list, or the closing of the scope does. Such a list passes through a
//! join, whose value says which it was: nobody else knows of policies. Error callbacks around the list
//! do not cover the member, since the list has not failed. `finally` works the same way: a scope around
//! the canvas, one node, and a join of how it ended that the canvases in `finally` take; but there the
//! failure goes on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;

use celeriac_primitives::{
    Call, Canvas, Chain, Chord, Chunks, Json, LeafOptions, LimitError, Map, MapKind, NodeNo, OnFailure,
    Options, Path, Segment, Signature, TaskName,
};

use super::{
    After, CompileError, Defaults, Expansion, Leaf, Node, NodeKind, Parts, Place, RunOptions, Scope,
    ScopeKind, ScopeNo, Source, Value, is_inside,
};

/// Compiles canvases that are within their limits.
pub(super) fn lower(
    expansion: Expansion<'_>,
    nodes_max: usize,
    defaults: Defaults<'_>,
) -> Result<Parts, CompileError> {
    let mut lowering = Lowering::new(nodes_max, defaults);
    let output = lowering.expansion(expansion)?;
    let Lowering { tasks, queues, options, nodes, scopes, places, .. } = lowering;
    Ok(Parts { tasks, queues, options, nodes, scopes, places, output })
}

/// What comes before a canvas, or after it.
#[derive(Clone)]
enum Input {
    /// It starts the run.
    Nothing,
    /// A value, to be prepended.
    Fed(Value),
    /// Something to wait for.
    After(After),
}

/// Where the lowering is.
#[derive(Clone)]
struct At {
    place: u32,
    scope: ScopeNo,
    queue: Option<u32>,
    /// Set on the canvases around, for the leaves that they hand them on to.
    options: Option<Rc<LeafOptions>>,
    /// For a group that is flattened into a list: the policy of that list.
    list: Option<OnFailure>,
    /// The policy of the list of which this yields an item, when it does.
    member: Option<OnFailure>,
}

/// Error callbacks that a canvas inherits from those around it: the place they were attached to, and
/// the canvases.
type Errbacks<'c> = (u32, &'c [Canvas]);

struct Lowering<'d> {
    defaults: Defaults<'d>,
    /// Error callbacks stand once for every part that they cover, so a small canvas may become a large
    /// plan.
    nodes_max: usize,
    tasks: Vec<TaskName>,
    /// What each task says about leaves that do not say it themselves; none when the run says nothing
    /// either.
    task_defaults: Vec<Option<RunOptions>>,
    /// Whether the canvas has brought the declaration of each task along.
    are_declared: Vec<bool>,
    task_numbers: HashMap<TaskName, u32>,
    queues: Vec<Arc<str>>,
    queue_numbers: HashMap<String, u32>,
    options: Vec<Arc<LeafOptions>>,
    option_numbers: HashMap<Arc<LeafOptions>, u32>,
    nodes: Vec<Node>,
    scopes: Vec<Scope>,
    places: Vec<Place>,
    no_args: Arc<str>,
    no_kwargs: Arc<str>,
}

impl<'d> Lowering<'d> {
    fn new(nodes_max: usize, defaults: Defaults<'d>) -> Self {
        Self {
            defaults,
            nodes_max,
            tasks: Vec::new(),
            task_defaults: Vec::new(),
            are_declared: Vec::new(),
            task_numbers: HashMap::new(),
            queues: Vec::new(),
            queue_numbers: HashMap::new(),
            options: Vec::new(),
            option_numbers: HashMap::new(),
            nodes: Vec::new(),
            scopes: vec![Scope { parent: ScopeNo::ROOT, kind: ScopeKind::Root }],
            places: vec![Place { parent: 0, segment: None }],
            no_args: "".into(),
            no_kwargs: "{}".into(),
        }
    }

    /// What runs in the place of a leaf. The leaf's own value is needed, whatever the policy of the list.
    fn expansion(&mut self, expansion: Expansion<'_>) -> Result<Value, CompileError> {
        let Expansion { own, added, member } = expansion;
        let root = At::root();
        let own = match own {
            Source::Value(value) => Value::constant(value.clone(), After::default()),
            Source::Apart(stored) => Value::Apart(Box::new(stored)),
            Source::Canvas(canvas) => {
                self.canvas(canvas, Input::Nothing, &At { member, ..root.clone() }, &[])?.value()
            }
        };
        if added.is_empty() {
            return Ok(own);
        }
        let policy = member.unwrap_or_default();
        let added = self.members(added, (Segment::Added, policy), Input::Nothing, &root, &[])?;
        let items = std::iter::once(own).chain(self.items_of(added)).collect();
        Ok(self.gathered(Value::List(items), &root))
    }

    /// Adds what a canvas needs and returns what comes after it. `inherited` are the error callbacks of
    /// canvases around it that cover each of its failures separately.
    fn canvas(
        &mut self,
        canvas: &Canvas,
        input: Input,
        at: &At,
        inherited: &[Errbacks<'_>],
    ) -> Result<Input, CompileError> {
        // Empty canvases have no nodes, but places.
        if self.nodes.len() > 2 * self.nodes_max || self.places.len() > 4 * self.nodes_max.max(16) {
            return Err(LimitError::Nodes { max: self.nodes_max }.into());
        }
        // A task of which nothing else is said, as most are.
        if let Canvas::Signature(signature) = canvas
            && inherited.is_empty()
            && signature.options.is_empty()
        {
            return Ok(Input::Fed(self.signature(signature, input, at)));
        }
        let list = at.list;
        let outside = &At { list: None, ..self.with_options(at, canvas.options())? };
        let policy = self.policy(outside, canvas)?.or(list).unwrap_or_default();
        let finally = canvas.options().finally();
        let inside;
        let at = if finally.is_empty() {
            outside
        } else {
            inside = At { scope: self.scope(outside.scope, ScopeKind::Finally), ..outside.clone() };
            &inside
        };
        let own = canvas.options().link_error();
        let own = Some((at.place, own)).filter(|_| !own.is_empty());
        let errbacks: Vec<Errbacks<'_>> = own.into_iter().chain(inherited.iter().copied()).collect();
        let output = match canvas {
            Canvas::Signature(signature) => Input::Fed(
                self.covered(at, &errbacks, |lowering, at| lowering.signature(signature, input, at))?,
            ),
            Canvas::Map(map) => {
                let items = self.map_items(map, at)?;
                Input::Fed(self.covered(at, &errbacks, |lowering, at| lowering.map(map, items, input, at))?)
            }
            Canvas::Chunks(chunks) => Input::Fed(self.chunks(chunks, input, at, &errbacks)?),
            Canvas::Group(group) => {
                let value = self.members(&group.members, (Segment::Group, policy), input, at, &errbacks)?;
                // What goes into another list, and to nobody else, passes through the join of that list.
                let is_part = list.is_some() && finally.is_empty() && canvas.options().link().is_empty();
                Input::Fed(if is_part { value } else { self.gathered(value, at) })
            }
            Canvas::Chain(chain) => self.chain(chain, input, at, &errbacks)?,
            Canvas::Chord(chord) => self.chord(chord, policy, input, at, &errbacks)?,
        };
        let output = self.finally(finally, output, outside, at.scope)?;
        self.links(canvas.options().link(), output, outside)
    }

    /// What a group or chord says of members that fail.
    fn policy(&self, at: &At, canvas: &Canvas) -> Result<Option<OnFailure>, CompileError> {
        let policy = canvas.options().on_failure();
        match canvas {
            Canvas::Group(_) | Canvas::Chord(_) => Ok(policy),
            _ if policy.is_none() => Ok(None),
            _ => Err(CompileError::OnFailure { path: self.path(at) }),
        }
    }

    fn signature(&mut self, signature: &Signature, input: Input, at: &At) -> Value {
        let args = self.items(&signature.args);
        let kwargs = if signature.kwargs.is_empty() {
            self.no_kwargs.clone()
        } else {
            Json::object(signature.kwargs.iter().map(|(name, value)| (name.as_str(), value))).into_text()
        };
        let input = if signature.immutable { input.unfed() } else { input };
        self.leaf((&signature.task, &signature.options), Call::Once, (args, kwargs), input, at)
    }

    fn map_items(&self, map: &Map, at: &At) -> Result<Arc<str>, CompileError> {
        if map.kind == MapKind::Starmap {
            self.check_starmap_items(&map.items, at)?;
        }
        Ok(self.items(&map.items))
    }

    fn map(&mut self, map: &Map, items: Arc<str>, input: Input, at: &At) -> Value {
        let call = match map.kind {
            MapKind::Map => Call::Map,
            MapKind::Starmap => Call::Starmap,
        };
        let kwargs = self.no_kwargs.clone();
        self.leaf((&map.task, &map.options), call, (items, kwargs), input.unfed(), at)
    }

    /// Parallel starmap leaves. Like a map they ignore their input.
    fn chunks(
        &mut self,
        chunks: &Chunks,
        input: Input,
        at: &At,
        errbacks: &[Errbacks<'_>],
    ) -> Result<Value, CompileError> {
        if chunks.size == 0 {
            return Err(CompileError::ChunkSize { path: self.path(at) });
        }
        self.check_starmap_items(&chunks.items, at)?;
        let parts = chunks.items.chunks(chunks.size);
        let input = self.share(input.unfed(), parts.len(), at);
        let mut values = Vec::with_capacity(parts.len());
        for (i, part) in parts.enumerate() {
            let at = self.down(at, Segment::Chunk(i as u32));
            let input = input.clone();
            values.push(self.covered(&at, errbacks, |lowering, at| {
                let (items, kwargs) = (lowering.items(part), lowering.no_kwargs.clone());
                let called = (&chunks.task, &chunks.options);
                lowering.leaf(called, Call::Starmap, (items, kwargs), input, at)
            })?);
        }
        Ok(list(values, &input))
    }

    /// The members of a group or header; groups directly among them are flattened, in the order written.
    fn members(
        &mut self,
        members: &[Canvas],
        (segment, policy): (fn(u32) -> Segment, OnFailure),
        input: Input,
        at: &At,
        errbacks: &[Errbacks<'_>],
    ) -> Result<Value, CompileError> {
        let input = self.share(input, members.len(), at);
        let mut values = Vec::with_capacity(members.len());
        let at = &At { member: Some(policy), ..at.clone() };
        for (i, member) in members.iter().enumerate() {
            let at = self.down(at, segment(i as u32));
            let before = self.nodes.len();
            if let Canvas::Group(_) = member {
                let at = At { list: Some(policy), ..at };
                let value = self.canvas(member, input.clone(), &at, errbacks)?.value();
                values.extend(self.items_of(value));
            } else if policy.tolerates() {
                values.push(self.tolerated(member, policy, input.clone(), &at)?);
            } else {
                let value = self.canvas(member, input.clone(), &at, errbacks)?.value();
                values.push(match value {
                    // An empty chain hands on what stands in another list, but not what was added there.
                    Value::Node(node) if node.index() < before && self.adds(node) => {
                        Value::Node(self.join(Some(value), After::default(), &at))
                    }
                    value => value,
                });
            }
        }
        Ok(list(values, &input))
    }

    fn adds(&self, node: NodeNo) -> bool {
        let kind = &self.nodes[node.index()].kind;
        matches!(kind, NodeKind::Leaf(leaf) if leaf.member.is_some())
    }

    /// A member whose failure ends with it.
    fn tolerated(
        &mut self,
        member: &Canvas,
        policy: OnFailure,
        input: Input,
        at: &At,
    ) -> Result<Value, CompileError> {
        let at = At { scope: self.scope(at.scope, ScopeKind::Absorb), ..at.clone() };
        let value = self.canvas(member, input, &at, &[])?.value();
        let node = self.one_node(value, &at);
        Ok(match policy {
            OnFailure::Collect => Value::Entry(node, at.scope),
            OnFailure::Drop | OnFailure::Fail => Value::Kept(node, at.scope),
        })
    }

    /// The node whose success is the success of the part in this scope. Every leaf of the part comes
    /// before it, so either it succeeds or a failure closes the scope, never both.
    fn one_node(&mut self, value: Value, at: &At) -> NodeNo {
        match value {
            // What an empty chain hands on stands outside.
            Value::Node(node) if is_inside(&self.scopes, self.nodes[node.index()].scope, at.scope) => node,
            value => self.join(Some(value), After::default(), at),
        }
    }

    /// A list with tolerated members as a join: it waits until all of them have ended.
    fn gathered(&mut self, list: Value, at: &At) -> Value {
        if list.has_parts() { Value::Node(self.join(Some(list), After::default(), at)) } else { list }
    }

    /// Canvases that get how the part in `scope` has ended; how they end is their own affair.
    fn finally(
        &mut self,
        canvases: &[Canvas],
        output: Input,
        at: &At,
        scope: ScopeNo,
    ) -> Result<Input, CompileError> {
        if canvases.is_empty() {
            return Ok(output);
        }
        let node = self.one_node(output.clone().value(), &At { scope, ..at.clone() });
        let ended = self.join(Some(Value::Entry(node, scope)), After::default(), at);
        for (i, last) in canvases.iter().enumerate() {
            let at = self.detached(at, Segment::Finally(i as u32));
            self.canvas(last, Input::Fed(Value::Node(ended)), &at, &[])?;
        }
        // An empty chain at the start of a run still hands on nothing.
        Ok(if let Input::Fed(_) = output { Input::Fed(Value::Node(node)) } else { output })
    }

    /// The items of a group's value. An empty group has none: its siblings wait for the same input as
    /// it does. A list that a callback takes, too, stands behind a join.
    fn items_of(&self, value: Value) -> Vec<Value> {
        match value {
            Value::List(items) => items,
            Value::Const(..) => Vec::new(),
            Value::Node(join) => {
                let input = self.nodes[join.index()].input.clone();
                input.map(|input| self.items_of(input)).unwrap_or_default()
            }
            Value::Apart(_) | Value::Failure(_) | Value::Entry(..) | Value::Kept(..) => {
                unreachable!("a group yields a list")
            }
        }
    }

    /// A fold. Empty chains at the end hand on what the last step yields; they do not make it less the
    /// last.
    fn chain(
        &mut self,
        chain: &Chain,
        input: Input,
        at: &At,
        errbacks: &[Errbacks<'_>],
    ) -> Result<Input, CompileError> {
        let mut output = if chain.immutable { input.unfed() } else { input };
        let last = chain.steps.iter().rposition(|step| !step.is_identity());
        // Where nothing can fail there is nothing to cover.
        let (last, errbacks) = last.map_or((0, &[][..]), |last| (last, errbacks));
        let together = self.open(at, errbacks);
        let covers_last = chain.steps.get(last).is_some_and(is_leaf);
        for (i, step) in chain.steps.iter().enumerate() {
            let is_covered = i < last || covers_last;
            let around = if is_covered { &together } else { at };
            // What is set on a chain is for its first step.
            let (queue, options) = if i == 0 { (at.queue, at.options.clone()) } else { (None, None) };
            let member = at.member.filter(|_| i == last);
            let at = At { queue, options, member, ..around.clone() };
            let at = self.down(&at, Segment::Chain(i as u32));
            output = self.canvas(step, output, &at, if is_covered { &[] } else { errbacks })?;
        }
        self.close(at, together.scope, errbacks)?;
        Ok(output)
    }

    /// The header, then the body with the list. Error callbacks of the body hear of a failing header, too.
    fn chord(
        &mut self,
        chord: &Chord,
        policy: OnFailure,
        input: Input,
        at: &At,
        errbacks: &[Errbacks<'_>],
    ) -> Result<Input, CompileError> {
        let Some(body) = chord.body.as_deref() else {
            return Err(CompileError::NoBody { path: self.path(at) });
        };
        let body_at = self.down(at, Segment::Body);
        let own = body.options().link_error();
        let own = Some((body_at.place, own)).filter(|_| !own.is_empty());
        let over_header: Vec<Errbacks<'_>> = own.into_iter().chain(errbacks.iter().copied()).collect();
        let header_at = self.open(at, &over_header);
        let header = self.members(&chord.header, (Segment::Header, policy), input, &header_at, &[])?;
        let header = self.gathered(header, &header_at);
        self.close(at, header_at.scope, &over_header)?;
        // The body has waited for its header: it does not wait again.
        let body_options =
            at.options.as_deref().map(|options| LeafOptions { start: None, ..options.clone() });
        let body_at = At { options: body_options.map(Rc::new), ..body_at };
        self.canvas(body, Input::Fed(header), &body_at, errbacks)
    }

    /// Callbacks: each gets the value, and its failure is its own affair.
    fn links(&mut self, links: &[Canvas], output: Input, at: &At) -> Result<Input, CompileError> {
        let output = self.share(output, links.len() + 1, at);
        for (i, callback) in links.iter().enumerate() {
            let at = self.detached(at, Segment::Link(i as u32));
            self.canvas(callback, Input::Fed(output.clone().value()), &at, &[])?;
        }
        Ok(output)
    }

    /// Lowers a part inside a scope of its own when it has error callbacks, and outside when not.
    fn covered(
        &mut self,
        at: &At,
        errbacks: &[Errbacks<'_>],
        part: impl FnOnce(&mut Self, &At) -> Value,
    ) -> Result<Value, CompileError> {
        let inner = self.open(at, errbacks);
        let value = part(self, &inner);
        self.close(at, inner.scope, errbacks)?;
        Ok(value)
    }

    fn open(&mut self, at: &At, errbacks: &[Errbacks<'_>]) -> At {
        if errbacks.is_empty() {
            return at.clone();
        }
        At { scope: self.scope(at.scope, ScopeKind::Errback), ..at.clone() }
    }

    /// Adds the error callbacks that the closing of `scope` releases.
    fn close(&mut self, at: &At, scope: ScopeNo, errbacks: &[Errbacks<'_>]) -> Result<(), CompileError> {
        for (place, canvases) in errbacks {
            for (i, errback) in canvases.iter().enumerate() {
                let around = At { place: *place, queue: None, options: None, ..at.clone() };
                let at = self.detached(&around, Segment::LinkError(i as u32));
                self.canvas(errback, Input::Fed(Value::Failure(scope)), &at, &[])?;
            }
        }
        Ok(())
    }

    fn scope(&mut self, parent: ScopeNo, kind: ScopeKind) -> ScopeNo {
        self.scopes.push(Scope { parent, kind });
        ScopeNo::from_index(self.scopes.len() - 1)
    }

    fn detached(&mut self, at: &At, segment: Segment) -> At {
        let scope = self.scope(at.scope, ScopeKind::Detached);
        self.down(&At { scope, queue: None, options: None, member: None, ..at.clone() }, segment)
    }

    /// An input for several consumers: what refers to more than one node passes through one join, so
    /// that k values and m consumers cost k + m edges and not k · m.
    fn share(&mut self, input: Input, consumers: usize, at: &At) -> Input {
        if consumers < 2 {
            return input;
        }
        match input {
            Input::Fed(value) if value.references(2) > 1 => {
                Input::Fed(Value::Node(self.join(Some(value), After::default(), at)))
            }
            Input::After(after) if after.nodes.len() > 1 => {
                let gate = after.gate;
                Input::After(After { nodes: vec![self.join(None, after, at)], gate })
            }
            input => input,
        }
    }

    fn join(&mut self, input: Option<Value>, after: After, at: &At) -> NodeNo {
        self.node(Node { kind: NodeKind::Join, input, after, scope: at.scope, place: at.place })
    }

    fn leaf(
        &mut self,
        (task, options): (&TaskName, &Options),
        call: Call,
        (args, kwargs): (Arc<str>, Arc<str>),
        input: Input,
        at: &At,
    ) -> Value {
        let task = self.task(task, options.declared());
        let (input, after) = match input {
            Input::Nothing => (None, After::default()),
            Input::Fed(value) => (Some(value), After::default()),
            Input::After(after) => (None, after),
        };
        let is_first = input.is_none() && after.nodes.is_empty() && after.gate.is_none();
        let (queue, options) = self.defaults_for(task, is_first, at);
        // An item of a map is only a part of a leaf.
        let member = at.member.filter(|_| call == Call::Once);
        let kind = NodeKind::Leaf(Leaf { task, queue, options, call, args, kwargs, member, apart: None });
        Value::Node(self.node(Node { kind, input, after, scope: at.scope, place: at.place }))
    }

    /// The number of a task. A canvas may call it by its name first, and with its declaration later:
    /// then the options of the task are known from there on.
    fn task(&mut self, name: &TaskName, declared: Option<&'static Options>) -> u32 {
        match self.task_numbers.entry(name.clone()) {
            Entry::Occupied(known) => {
                let number = *known.get();
                if declared.is_some() && !std::mem::replace(&mut self.are_declared[number as usize], true) {
                    self.task_defaults[number as usize] = defaults_of(self.defaults, name, declared);
                }
                number
            }
            Entry::Vacant(new) => {
                self.task_defaults.push(defaults_of(self.defaults, name, declared));
                self.are_declared.push(declared.is_some());
                self.tasks.push(name.clone());
                *new.insert(self.tasks.len() as u32 - 1)
            }
        }
    }

    fn node(&mut self, node: Node) -> NodeNo {
        self.nodes.push(node);
        NodeNo::from_index(self.nodes.len() - 1)
    }

    fn items(&self, items: &[Json]) -> Arc<str> {
        if items.is_empty() {
            return self.no_args.clone();
        }
        let list = Json::list(items);
        let text = list.as_str();
        text[1..text.len() - 1].into()
    }

    fn check_starmap_items(&self, items: &[Json], at: &At) -> Result<(), CompileError> {
        match items.iter().position(|item| !item.as_str().starts_with('[')) {
            Some(index) => Err(CompileError::StarmapItem {
                path: self.path(at),
                index,
                item: items[index].as_str().chars().take(80).collect(),
            }),
            None => Ok(()),
        }
    }

    /// Lays a canvas's options over those around it.
    fn with_options(&mut self, at: &At, options: &Options) -> Result<At, CompileError> {
        if options.values().next().is_none() {
            return Ok(at.clone());
        }
        let read = LeafOptions::of(options);
        let own = read.map_err(|source| CompileError::OptionValue { path: self.path(at), source })?;
        let queue = options.queue().map(|queue| self.queue(queue));
        let options = match &at.options {
            _ if own.is_empty() => at.options.clone(),
            Some(around) => Some(Rc::new(own.or(around))),
            None => Some(Rc::new(own)),
        };
        Ok(At { queue: queue.or(at.queue), options, ..at.clone() })
    }

    fn queue(&mut self, queue: String) -> u32 {
        match self.queue_numbers.entry(queue) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.queues.push(new.key().as_str().into());
                *new.insert(self.queues.len() as u32 - 1)
            }
        }
    }

    /// The queue and options of a leaf: what is set on it and around it, then on the run, then for its
    /// task.
    fn defaults_for(&mut self, task: u32, is_first: bool, at: &At) -> (Option<u32>, Option<u32>) {
        if at.options.is_none() && self.task_defaults[task as usize].is_none() {
            return (at.queue, None);
        }
        let run = self.defaults.run;
        let task = self.task_defaults[task as usize].clone().unwrap_or_default();
        let mut queue = at.queue;
        if queue.is_none()
            && let Some(name) = run.queue.as_ref().or(task.queue.as_ref())
        {
            queue = Some(self.queue(name.clone()));
        }
        let own = at.options.as_deref();
        // A countdown of the run delays the leaves that start it.
        let run = LeafOptions { start: run.leaf.start.filter(|_| is_first), ..run.leaf.clone() };
        let options = own.cloned().unwrap_or_default().or(&run).or(&task.leaf);
        if options.is_empty() {
            return (queue, None);
        }
        let number = *self.option_numbers.entry(Arc::new(options)).or_insert_with_key(|options| {
            self.options.push(options.clone());
            self.options.len() as u32 - 1
        });
        (queue, Some(number))
    }

    fn down(&mut self, at: &At, segment: Segment) -> At {
        self.places.push(Place { parent: at.place, segment: Some(segment) });
        At { place: self.places.len() as u32 - 1, ..at.clone() }
    }

    fn path(&self, at: &At) -> Path {
        let mut segments = Vec::new();
        let mut place = at.place;
        while let Place { parent, segment: Some(segment) } = self.places[place as usize] {
            segments.push(segment);
            place = parent;
        }
        segments.into_iter().rev().collect()
    }
}

fn defaults_of(defaults: Defaults<'_>, task: &TaskName, declared: Option<&Options>) -> Option<RunOptions> {
    let of_task = (defaults.task)(task, declared);
    let is_none = of_task == RunOptions::default() && *defaults.run == RunOptions::default();
    (!is_none).then_some(of_task)
}

impl At {
    fn root() -> Self {
        Self { place: 0, scope: ScopeNo::ROOT, queue: None, options: None, list: None, member: None }
    }
}

impl Input {
    /// The same, to wait for only.
    fn unfed(self) -> Input {
        match self {
            Input::Fed(value) => Input::After(value.after()),
            other => other,
        }
    }

    /// The value of what comes after a canvas: null when there is none.
    fn value(self) -> Value {
        match self {
            Input::Nothing => Value::constant(Json::null(), After::default()),
            Input::Fed(value) => value,
            Input::After(after) => Value::constant(Json::null(), after),
        }
    }
}

/// A list of values; an empty one still remembers what came before it.
fn list(values: Vec<Value>, input: &Input) -> Value {
    if !values.is_empty() {
        return Value::List(values);
    }
    let after = match input {
        Input::Nothing => After::default(),
        Input::Fed(value) => value.after(),
        Input::After(after) => after.clone(),
    };
    Value::constant(Json::from_compact("[]"), after)
}

fn is_leaf(canvas: &Canvas) -> bool {
    matches!(canvas, Canvas::Signature(_) | Canvas::Map(_))
}
