//! The edges of a plan, as a petgraph graph, and what follows from them.

use celeriac_primitives::NodeNo;
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::{CompileError, NodeKind, Parts, Plan, ScopeNo, Value};

/// Why a node waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It takes the other's result, at this place of its input, counted from the left.
    Data {
        /// The place.
        slot: u32,
    },
    /// The same of a part whose failure is no obstacle: the closing of this scope counts in the place of the other's
    /// success.
    Part {
        /// The place.
        slot: u32,
        /// The scope around the part.
        scope: ScopeNo,
    },
    /// It only comes after it.
    After,
}

impl Edge {
    /// The scope whose closing counts as well as the success of the node that this edge comes from.
    pub fn part(self) -> Option<ScopeNo> {
        match self {
            Edge::Part { scope, .. } => Some(scope),
            Edge::Data { .. } | Edge::After => None,
        }
    }
}

impl Plan {
    /// Derives edges, counters and outputs from the parts.
    pub(super) fn build(parts: Parts, value_items_max: usize) -> Result<Plan, CompileError> {
        let mut graph = DiGraph::with_capacity(parts.nodes.len(), parts.nodes.len());
        let mut gated = vec![Vec::new(); parts.scopes.len()];
        let mut waits = Vec::with_capacity(parts.nodes.len());
        for _ in &parts.nodes {
            graph.add_node(());
        }
        for (i, node) in parts.nodes.iter().enumerate() {
            let (mut count, mut slot) = (0, 0);
            let mut edge = |from: NodeNo, edge| {
                graph.add_edge(NodeIndex::new(from.index()), NodeIndex::new(i), edge);
                count += 1;
            };
            if let Some(input) = &node.input {
                input.for_each_need(&mut |from, part| {
                    match part {
                        Some(scope) => {
                            gated[scope.index()].push(NodeNo::from_index(i));
                            edge(from, Edge::Part { slot, scope });
                        }
                        None => edge(from, Edge::Data { slot }),
                    }
                    slot += 1;
                });
            }
            node.after.nodes.iter().for_each(|from| edge(*from, Edge::After));
            if let Some(gate) = node.gate() {
                gated[gate.index()].push(NodeNo::from_index(i));
                count += 1;
            }
            waits.push(count);
        }
        let outputs = parts.output.after().nodes;
        let mut is_output = vec![false; parts.nodes.len()];
        outputs.iter().for_each(|node| is_output[node.index()] = true);
        let plan = Plan { parts, graph, waits, gated, outputs, is_output };
        plan.check_value_sizes(value_items_max)?;
        Ok(plan)
    }

    /// A list that several nodes consume is stored once, as a join; written out it may still double with every step
    /// (`group(chain(), chain())`, forty times over). Such a value is refused before anybody tries to write it.
    fn check_value_sizes(&self, max: usize) -> Result<(), CompileError> {
        let mut sizes: Vec<usize> = Vec::with_capacity(self.len());
        for (number, node) in self.nodes() {
            let size = match (&node.kind, &node.input) {
                (NodeKind::Join, Some(input)) => value_size(input, &sizes),
                _ => 1,
            };
            if size > max {
                return Err(CompileError::ValueSize { path: self.path(number), max });
            }
            sizes.push(size);
        }
        if value_size(self.output(), &sizes) > max {
            return Err(CompileError::ValueSize { path: celeriac_primitives::Path::root(), max });
        }
        Ok(())
    }

    /// How many edges the DAG has.
    pub fn edge_count(&self) -> usize {
        self.graph.edge_count()
    }

    /// Who waits for a node: every edge's other end, with why; in no particular order.
    pub fn successors(&self, node: NodeNo) -> impl Iterator<Item = (NodeNo, Edge)> {
        let edges = self.graph.edges_directed(NodeIndex::new(node.index()), Direction::Outgoing);
        edges.map(|edge| (NodeNo::from_index(edge.target().index()), *edge.weight()))
    }

    /// For whom a node waits, in no particular order.
    pub fn predecessors(&self, node: NodeNo) -> impl Iterator<Item = (NodeNo, Edge)> {
        let edges = self.graph.edges_directed(NodeIndex::new(node.index()), Direction::Incoming);
        edges.map(|edge| (NodeNo::from_index(edge.source().index()), *edge.weight()))
    }

    /// How many predecessors each node counts, its gate included, in the order of the nodes.
    pub fn waits(&self) -> &[u32] {
        &self.waits
    }

    /// The nodes for which the closing of a scope counts: those that wait for its failure, and those that wait for its
    /// end.
    pub fn gated(&self, scope: ScopeNo) -> &[NodeNo] {
        &self.gated[scope.index()]
    }

    /// How many leaves run when nothing fails: all but the error callbacks, and what comes after those.
    pub fn expected(&self) -> u32 {
        let mut optional: Vec<bool> = Vec::with_capacity(self.len());
        let mut expected = 0;
        for (number, node) in self.nodes() {
            // Predecessors have smaller numbers: theirs is known.
            let follows = self.predecessors(number).any(|(from, _)| optional[from.index()]);
            optional.push(node.gate().is_some() || follows);
            expected += u32::from(!optional[number.index()] && self.leaf(number).is_some());
        }
        expected
    }

    /// The nodes that wait for nothing: a run starts with them.
    pub fn starts(&self) -> impl Iterator<Item = NodeNo> {
        self.waits.iter().enumerate().filter(|(_, waits)| **waits == 0).map(|(i, _)| NodeNo::from_index(i))
    }
}

impl super::Node {
    /// The scope whose closing this node waits for.
    pub fn gate(&self) -> Option<ScopeNo> {
        self.input.as_ref().and_then(Value::gate).or(self.after.gate)
    }
}

/// How many items a value has when it is written out, given the sizes of the nodes before it.
fn value_size(value: &Value, sizes: &[usize]) -> usize {
    match value {
        Value::Node(node) => sizes.get(node.index()).copied().unwrap_or(1),
        Value::List(items) => {
            items.iter().fold(0usize, |size, item| size.saturating_add(value_size(item, sizes))).max(1)
        }
        Value::Entry(node, _) | Value::Kept(node, _) => value_size(&Value::Node(*node), sizes),
        Value::Const(..) | Value::Apart(_) | Value::Failure(_) => 1,
    }
}
