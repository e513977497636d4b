//! The plan in Graphviz's language.

use celeriac_primitives::NodeNo;

use super::label::{Labels, push};
use super::scopes::{Scopes, Visit};
use super::{edges_into, standing_of};
use crate::plan::{Edge, Plan, ScopeKind, ScopeNo};
use crate::view::Standing;

/// The plan as a digraph for Graphviz: `dot -Tsvg`.
///
/// Leaves are boxes and joins ellipses, those that the run's value needs with a double line. A data edge is solid, an
/// after edge dashed, and an edge from a part that counts whether it succeeds or fails is orange; every scope but the run
/// is a cluster, and a dotted red edge leads from it to each node that waits for its failure.
pub fn dot(plan: &Plan, standings: Option<&[Standing]>) -> String {
    let scopes = Scopes::of(plan);
    let labels = Labels::new(plan, &scopes);
    let mut out = String::from(
        "digraph plan {\n  compound=true;\n  node [shape=box, fontname=\"monospace\"];\n  edge [fontname=\"monospace\"];\n",
    );
    scopes.walk(|visit| match visit {
        Visit::Enter(scope) => {
            if scope != ScopeNo::ROOT {
                open_cluster(&mut out, plan, scope);
            }
            for node in &scopes.place(scope).nodes {
                push(
                    &mut out,
                    format_args!(
                        "  n{node} [label=\"n{node} {}\\n{}\"",
                        quoted(&labels.call(*node)),
                        plan.path(*node)
                    ),
                );
                out.push_str(attributes(plan, *node));
                out.push_str(standing_of(standings, *node).map_or("", fill));
                out.push_str("];\n");
            }
            if scopes.place(scope).last.is_none() && scope != ScopeNo::ROOT {
                push(&mut out, format_args!("  s{} [shape=point];\n", scope.index()));
            }
        }
        Visit::Leave(scope) if scope != ScopeNo::ROOT => out.push_str("  }\n"),
        Visit::Leave(_) => {}
    });
    for (number, node) in plan.nodes() {
        for (from, edge) in edges_into(plan, number) {
            let style = match edge {
                Edge::Data { .. } => "",
                Edge::Part { .. } => " [color=orange]",
                Edge::After => " [style=dashed]",
            };
            push(&mut out, format_args!("  n{from} -> n{number}{style};\n"));
        }
        if let Some(gate) = node.gate() {
            let (scope, tail) = (gate.index(), scopes.place(gate).last);
            let tail = tail.map_or(format!("s{scope}"), |node| format!("n{node}"));
            let style = format!("style=dotted, color=red, ltail=cluster_s{scope}");
            push(&mut out, format_args!("  {tail} -> n{number} [{style}];\n"));
        }
    }
    out.push_str("}\n");
    out
}

fn open_cluster(out: &mut String, plan: &Plan, scope: ScopeNo) {
    let (kind, color) = match plan.scope(scope).kind {
        ScopeKind::Root => ("run", "black"),
        ScopeKind::Errback => ("errback", "red"),
        ScopeKind::Finally => ("finally", "blue"),
        ScopeKind::Absorb => ("absorb", "orange"),
        ScopeKind::Detached => ("detached", "gray"),
    };
    let number = scope.index();
    push(
        out,
        format_args!(
            "  subgraph cluster_s{number} {{\n  label=\"s{number} {kind}\"; style=dashed; color={color};\n"
        ),
    );
}

fn attributes(plan: &Plan, node: NodeNo) -> &'static str {
    match (plan.leaf(node).is_some(), plan.is_output(node)) {
        (true, false) => "",
        (true, true) => ", peripheries=2",
        (false, false) => ", shape=ellipse",
        (false, true) => ", shape=ellipse, peripheries=2",
    }
}

fn fill(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "",
        Standing::Open | Standing::Replaced => ", style=filled, fillcolor=lightblue",
        Standing::Succeeded => ", style=filled, fillcolor=palegreen",
        Standing::Failed => ", style=filled, fillcolor=salmon",
        Standing::Blocked(_) | Standing::NotNeeded => ", style=filled, fillcolor=lightgray",
    }
}

/// The inside of a quoted string, in which Graphviz reads escapes and HTML's entities.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;")
}
