//! The plan as a Mermaid flowchart, for Markdown.

use super::label::{Labels, push};
use super::scopes::{Scopes, Visit};
use super::{edges_into, standing_of};
use crate::plan::{Edge, Plan, ScopeKind, ScopeNo};
use crate::view::Standing;

/// The plan as a Mermaid flowchart.
///
/// Leaves are boxes and joins have round ends. A data edge is solid, an after edge dotted, and an edge from a part that
/// counts whether it succeeds or fails is thick; every scope but the run is a subgraph, and a dotted red edge leads from
/// it to each node that waits for its failure.
///
/// Mermaid's own limits (500 edges and 50,000 characters, unless its page allows more) are not those of a plan: for
/// large ones take [`dot`](super::dot).
pub fn mermaid(plan: &Plan, standings: Option<&[Standing]>) -> String {
    let scopes = Scopes::of(plan);
    let labels = Labels::new(plan, &scopes);
    let mut out = String::from("flowchart TD\n");
    scopes.walk(|visit| match visit {
        Visit::Enter(scope) => {
            if scope != ScopeNo::ROOT {
                let kind = match plan.scope(scope).kind {
                    ScopeKind::Root => "run",
                    ScopeKind::Errback => "errback",
                    ScopeKind::Finally => "finally",
                    ScopeKind::Absorb => "absorb",
                    ScopeKind::Detached => "detached",
                };
                push(&mut out, format_args!("  subgraph s{0}[\"s{0} {kind}\"]\n", scope.index()));
            }
            for node in &scopes.place(scope).nodes {
                let (open, close) = if plan.leaf(*node).is_some() { ("[", "]") } else { ("([", "])") };
                let (call, path) = (escaped(&labels.call(*node)), plan.path(*node));
                push(&mut out, format_args!("  n{node}{open}\"n{node} {call}<br/>{path}\"{close}"));
                out.push_str(standing_of(standings, *node).map_or("", class));
                out.push('\n');
            }
            if scopes.place(scope).last.is_none() && scope != ScopeNo::ROOT {
                push(&mut out, format_args!("  e{}[\"nothing\"]\n", scope.index()));
            }
        }
        Visit::Leave(scope) if scope != ScopeNo::ROOT => out.push_str("  end\n"),
        Visit::Leave(_) => {}
    });
    let gates = edges(&mut out, plan);
    if !gates.is_empty() {
        push(&mut out, format_args!("  linkStyle {} stroke:red\n", gates.join(",")));
    }
    if standings.is_some() {
        out.push_str(CLASSES);
    }
    out
}

/// Writes all edges; returns the places of the gates among them.
fn edges(out: &mut String, plan: &Plan) -> Vec<String> {
    let (mut place, mut gates) = (0, Vec::new());
    for (number, node) in plan.nodes() {
        for (from, edge) in edges_into(plan, number) {
            let arrow = match edge {
                Edge::Data { .. } => "-->",
                Edge::Part { .. } => "==>",
                Edge::After => "-.->",
            };
            push(out, format_args!("  n{from} {arrow} n{number}\n"));
            place += 1;
        }
        if let Some(gate) = node.gate() {
            push(out, format_args!("  s{} -.-> n{number}\n", gate.index()));
            gates.push(place.to_string());
            place += 1;
        }
    }
    gates
}

const CLASSES: &str = "\
  classDef open fill:lightblue
  classDef succeeded fill:palegreen
  classDef failed fill:salmon
  classDef idle fill:lightgray
";

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "",
        Standing::Open | Standing::Replaced => ":::open",
        Standing::Succeeded => ":::succeeded",
        Standing::Failed => ":::failed",
        Standing::Blocked(_) | Standing::NotNeeded => ":::idle",
    }
}

/// The inside of a quoted label. Mermaid looks for quotes, entities, HTML, Markdown, `%%{…}%%` and even for styles
/// (`style…:#…;`) in there: what could begin one of them is written as an entity.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | '.' | '=' | '-' | '_' => out.push(character),
            _ if character.is_ascii_punctuation() => push(&mut out, format_args!("#{};", character as u32)),
            _ => out.push(character),
        }
    }
    out
}
