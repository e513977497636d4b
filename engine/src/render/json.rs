//! The plan as JSON, for programs.

use celeriac_primitives::{Call, Json, LeafOptions, NodeNo, TaskName};
use serde::Serialize;
use serde_json::{Map, Value as JsonValue};

use super::{edges_into, standing_of};
use crate::plan::{Edge, Node, Plan, ScopeKind, ScopeNo, Value};
use crate::view::Standing;

/// The plan as one line of JSON.
///
/// The keys below are stable; later versions may add others. Nodes and scopes are referred to by
/// their numbers.
///
/// ```text
/// {"nodes": [node…], "edges": [edge…], "scopes": [scope…], "output": value}
///
/// node   number     1, 2, 3, …
///        path       where it stands in the canvas: "chain[1].header[3]"
///        kind       "leaf" or "join"
///        task       the full name of the task; null for a join
///        call       "once", "map" or "starmap"; null for a join
///        args       the bound arguments, a list (of a map the items); null for a join
///        kwargs     the bound keyword arguments, an object; null for a join
///        queue      the queue it asks for, or null
///        options    only where some are set, by whatever around it: priority, retry, …; times in ms
///        input      the value that is prepended to the arguments or collected, or null
///        after      the nodes it waits for without taking anything from them
///        gate       the scope whose closing it waits for, or null
///        scope      its innermost scope
///        standing   only where it is known: "waiting", "open", "succeeded", "failed", "blocked" or "not needed"
///        blocked_by only for "blocked": the node that failed
/// edge   from, to   two nodes
///        kind       "data", "after", or "part" for a data edge that counts in either case
///        slot       of a data or part edge: the place in the input, from 0
///        scope      of a part edge: the scope whose closing counts in the place of the node's success
/// scope  number     0 is the run
///        parent     the scope around it; null for the run
///        kind       "run", "errback", "finally", "absorb" or "detached"
/// value  {"node": 1}                      the result of a node
///        {"list": [value…]}               a list
///        {"const": any, "after": [1, …]}  known beforehand, once these nodes have succeeded
///        {"failure": 1}                   the failure that closed a scope
///        {"entry": 1, "scope": 1}         {"ok": …} with the result of a node, or {"error": …} once the scope is closed
///        {"kept": 1, "scope": 1}          an item of a list: the result of a node, or nothing once the scope is closed
/// ```
pub fn json(plan: &Plan, standings: Option<&[Standing]>) -> String {
    let node = |(number, node)| NodeRow::of(plan, number, node, standing_of(standings, number));
    let edges = plan.nodes().flat_map(|(to, _)| {
        edges_into(plan, to).into_iter().map(move |(from, edge)| match edge {
            Edge::Data { slot } => EdgeRow { from, to, kind: "data", slot: Some(slot), scope: None },
            Edge::Part { slot, scope } => {
                EdgeRow { from, to, kind: "part", slot: Some(slot), scope: Some(scope.index()) }
            }
            Edge::After => EdgeRow { from, to, kind: "after", slot: None, scope: None },
        })
    });
    let scopes = plan.scopes().map(|(number, scope)| ScopeRow {
        number: number.index(),
        parent: (number != ScopeNo::ROOT).then_some(scope.parent.index()),
        kind: match scope.kind {
            ScopeKind::Root => "run",
            ScopeKind::Errback => "errback",
            ScopeKind::Finally => "finally",
            ScopeKind::Absorb => "absorb",
            ScopeKind::Detached => "detached",
        },
    });
    let rows = Rows {
        nodes: plan.nodes().map(node).collect(),
        edges: edges.collect(),
        scopes: scopes.collect(),
        output: ValueRow::of(plan.output()),
    };
    serde_json::to_string(&rows).expect("rows hold numbers, texts and JSON only")
}

#[derive(Serialize)]
struct Rows<'p> {
    nodes: Vec<NodeRow<'p>>,
    edges: Vec<EdgeRow>,
    scopes: Vec<ScopeRow>,
    output: ValueRow<'p>,
}

#[derive(Serialize)]
struct NodeRow<'p> {
    number: NodeNo,
    path: String,
    kind: &'static str,
    task: Option<&'p TaskName>,
    call: Option<&'static str>,
    args: Option<Json>,
    kwargs: Option<Json>,
    queue: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Map<String, JsonValue>>,
    input: Option<ValueRow<'p>>,
    after: &'p [NodeNo],
    gate: Option<usize>,
    scope: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_by: Option<NodeNo>,
}

#[derive(Serialize)]
struct EdgeRow {
    from: NodeNo,
    to: NodeNo,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<usize>,
}

#[derive(Serialize)]
struct ScopeRow {
    number: usize,
    parent: Option<usize>,
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ValueRow<'p> {
    Node { node: NodeNo },
    List { list: Vec<ValueRow<'p>> },
    Const { r#const: Json, after: &'p [NodeNo] },
    Apart { bytes: u64 },
    Failure { failure: usize },
    Entry { entry: NodeNo, scope: usize },
    Kept { kept: NodeNo, scope: usize },
}

impl<'p> NodeRow<'p> {
    fn of(plan: &'p Plan, number: NodeNo, node: &'p Node, standing: Option<Standing>) -> Self {
        let leaf = plan.leaf(number);
        Self {
            number,
            path: plan.path(number).to_string(),
            kind: if leaf.is_some() { "leaf" } else { "join" },
            task: plan.task(number),
            call: leaf.map(|leaf| match leaf.call {
                Call::Once => "once",
                Call::Map => "map",
                Call::Starmap => "starmap",
            }),
            args: leaf.map(|leaf| checked(&format!("[{}]", leaf.args))),
            kwargs: leaf.map(|leaf| checked(&leaf.kwargs)),
            queue: plan.queue(number).map(|queue| &**queue),
            options: plan.options(number).map(|options| options_row(options)),
            input: node.input.as_ref().map(ValueRow::of),
            after: &node.after.nodes,
            gate: node.gate().map(ScopeNo::index),
            scope: node.scope.index(),
            standing: standing.map(standing_name),
            blocked_by: match standing {
                Some(Standing::Blocked(by)) => Some(by),
                _ => None,
            },
        }
    }
}

/// The options that are set.
fn options_row(options: &LeafOptions) -> Map<String, JsonValue> {
    let Ok(JsonValue::Object(mut options)) = serde_json::to_value(options) else { return Map::new() };
    options.retain(|_, value| !value.is_null());
    options
}

impl<'p> ValueRow<'p> {
    fn of(value: &'p Value) -> Self {
        match value {
            Value::Node(node) => Self::Node { node: *node },
            Value::List(items) => Self::List { list: items.iter().map(Self::of).collect() },
            Value::Const(known) => {
                let (json, after) = &**known;
                Self::Const { r#const: checked(json.as_str()), after: &after.nodes }
            }
            Value::Apart(stored) => Self::Apart { bytes: stored.bytes },
            Value::Failure(scope) => Self::Failure { failure: scope.index() },
            Value::Entry(node, scope) => Self::Entry { entry: *node, scope: scope.index() },
            Value::Kept(node, scope) => Self::Kept { kept: *node, scope: scope.index() },
        }
    }
}

/// A part of the plan that should be JSON. In a plan read from broken bytes it may be anything: then
/// its text.
fn checked(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|_| Json::string(text))
}

fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "waiting",
        Standing::Open => "open",
        Standing::Replaced => "replaced",
        Standing::Succeeded => "succeeded",
        Standing::Failed => "failed",
        Standing::Blocked(_) => "blocked",
        Standing::NotNeeded => "not needed",
    }
}
