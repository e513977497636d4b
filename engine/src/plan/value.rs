//! What a part of a canvas yields, before it is known.

use celeriac_primitives::{Json, NodeNo, Stored};
use serde::{Deserialize, Serialize};

use super::ScopeNo;

/// A value of a run, told by where it will come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// The result of a node; of a join, the value it collects.
    Node(NodeNo),
    /// A list of values.
    List(Vec<Value>),
    /// Known beforehand, such as the `[]` of an empty group; who takes it still waits for what came before.
    Const(Box<(Json, After)>),
    /// Known beforehand, and kept apart, because it is large.
    Apart(Box<Stored>),
    /// The failure that closed this scope: what an error callback is called with.
    Failure(ScopeNo),
    /// How the part in this scope ended: `{"ok": …}` with the result of the node, or `{"error": …}` with the failure
    /// that closed the scope. Either comes, and not both. Only joins take it.
    Entry(NodeNo, ScopeNo),
    /// An item of a list that is there only when the part in this scope has succeeded: the result of the node, or
    /// nothing once the scope was closed. Only joins take it.
    Kept(NodeNo, ScopeNo),
}

/// What has to happen first, without handing anything on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct After {
    /// These nodes have succeeded.
    pub nodes: Vec<NodeNo>,
    /// This scope was closed by a failure.
    pub gate: Option<ScopeNo>,
}

impl Value {
    /// A value that is known beforehand. (Boxed, because there are few of them, and room for one would be in every node.)
    pub(crate) fn constant(json: Json, after: After) -> Self {
        Self::Const(Box::new((json, after)))
    }

    /// Calls `visit` for every node this value needs, in order, once per place where it stands.
    pub fn for_each_node(&self, visit: &mut impl FnMut(NodeNo)) {
        self.for_each_need(&mut |node, _| visit(node));
    }

    /// The same, with the scope whose closing counts in the place of the node's success, if there is one.
    pub(crate) fn for_each_need(&self, visit: &mut impl FnMut(NodeNo, Option<ScopeNo>)) {
        match self {
            Value::Node(node) => visit(*node, None),
            Value::Entry(node, scope) | Value::Kept(node, scope) => visit(*node, Some(*scope)),
            Value::List(items) => items.iter().for_each(|item| item.for_each_need(visit)),
            Value::Const(known) => known.1.nodes.iter().for_each(|node| visit(*node, None)),
            Value::Failure(_) | Value::Apart(_) => {}
        }
    }

    /// The scope, when it needs only that the part in it has ended, either way.
    pub fn part(&self) -> Option<ScopeNo> {
        match self {
            Value::Entry(_, scope) | Value::Kept(_, scope) => Some(*scope),
            Value::Node(_) | Value::List(_) | Value::Const(..) | Value::Apart(_) | Value::Failure(_) => None,
        }
    }

    /// Whether it needs of some part only that it has ended.
    pub(crate) fn has_parts(&self) -> bool {
        match self {
            Value::List(items) => items.iter().any(Value::has_parts),
            value => value.part().is_some(),
        }
    }

    /// The scope whose closing this value waits for.
    pub(crate) fn gate(&self) -> Option<ScopeNo> {
        match self {
            Value::Node(_) | Value::Apart(_) | Value::Entry(..) | Value::Kept(..) => None,
            Value::List(items) => items.iter().find_map(Value::gate),
            Value::Const(known) => known.1.gate,
            Value::Failure(scope) => Some(*scope),
        }
    }

    /// The nodes whose success makes this value known, each once, by number.
    pub fn needs(&self) -> Vec<NodeNo> {
        self.after().nodes
    }

    /// Waiting for this value without taking it.
    pub(crate) fn after(&self) -> After {
        let mut nodes = Vec::new();
        self.for_each_node(&mut |node| nodes.push(node));
        nodes.sort_unstable();
        nodes.dedup();
        After { nodes, gate: self.gate() }
    }

    /// How many nodes it refers to, counted no further than `most`.
    pub(crate) fn references(&self, most: usize) -> usize {
        match self {
            Value::Node(_) | Value::Entry(..) | Value::Kept(..) => 1,
            Value::Failure(_) | Value::Apart(_) => 0,
            Value::Const(known) => known.1.nodes.len(),
            Value::List(items) => {
                let mut count = 0;
                for item in items {
                    count += item.references(most - count);
                    if count >= most {
                        return count;
                    }
                }
                count
            }
        }
    }
}
