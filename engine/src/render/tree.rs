//! The canvas as a tree, for the terminal.
//!
//! Lines stand where the nodes stand in the canvas: reading the words from the top down gives the path that errors
//! name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::rc::Rc;

use celeriac_primitives::{NodeNo, Path, Segment};

use super::label::{Labels, push, thousands};
use super::scopes::Scopes;
use super::standing_of;
use crate::plan::Plan;
use crate::view::Standing;

/// How many alike siblings in a row a terminal gets to see.
pub const FOLD_ABOVE: usize = 10;

/// The plan as a tree, one node a line, then what the run yields.
///
/// Of more than `fold_above` siblings in a row that look alike (the same tasks in the same order, standing the same),
/// some are folded into one line, `… 9,990 more`; `usize::MAX` folds nothing. With `standings`, each node has a mark:
/// `✓` succeeded, `✗` failed, `▶` open, `○` waiting, `⊘` blocked, `–` not needed.
pub fn tree(plan: &Plan, standings: Option<&[Standing]>, fold_above: usize) -> String {
    let scopes = Scopes::of(plan);
    let mut drawing = Drawing {
        plan,
        standings,
        labels: Labels::new(plan, &scopes),
        fold_above: fold_above.max(2),
        branches: branches(plan),
        out: String::new(),
    };
    drawing.hash_shapes();
    drawing.draw();
    let output = drawing.labels.output();
    drawing.out + "=> " + &output + "\n"
}

/// A place in the canvas, with the nodes right there and the places below it.
struct Branch {
    segment: Option<Segment>,
    nodes: Vec<NodeNo>,
    children: Vec<usize>,
    /// Equal for branches that look alike.
    shape: u64,
}

/// One line below a branch.
#[derive(Clone, Copy)]
enum Item {
    Branch(usize),
    Node(NodeNo),
    /// Lines that are not drawn.
    More(usize),
}

struct Line {
    indent: Rc<str>,
    is_last: bool,
    item: Item,
}

struct Drawing<'p> {
    plan: &'p Plan,
    standings: Option<&'p [Standing]>,
    labels: Labels<'p>,
    fold_above: usize,
    /// The outermost canvas first; every branch before its children.
    branches: Vec<Branch>,
    out: String,
}

/// Puts the nodes where they stand. Neither this nor the drawing recurses, whatever the depth.
fn branches(plan: &Plan) -> Vec<Branch> {
    let mut rows: Vec<(Path, NodeNo)> = plan.nodes().map(|(node, _)| (plan.path(node), node)).collect();
    rows.sort_unstable();
    let branch = |segment| Branch { segment, nodes: Vec::new(), children: Vec::new(), shape: 0 };
    let mut branches = vec![branch(None)];
    // The branches from the root to where we are.
    let mut way = vec![0];
    for (path, node) in rows {
        let segments = path.segments();
        let known = way.iter().skip(1).zip(segments);
        let shared = known.take_while(|(at, segment)| branches[**at].segment == Some(**segment)).count();
        way.truncate(shared + 1);
        for segment in &segments[shared..] {
            let (new, parent) = (branches.len(), way[way.len() - 1]);
            branches.push(branch(Some(*segment)));
            branches[parent].children.push(new);
            way.push(new);
        }
        branches[way[way.len() - 1]].nodes.push(node);
    }
    branches
}

impl Drawing<'_> {
    fn hash_shapes(&mut self) {
        for i in (0..self.branches.len()).rev() {
            let branch = &self.branches[i];
            let mut hasher = DefaultHasher::new();
            branch.segment.as_ref().map(discriminant).hash(&mut hasher);
            branch.nodes.iter().for_each(|node| self.shape_of(*node).hash(&mut hasher));
            branch.children.iter().for_each(|child| self.branches[*child].shape.hash(&mut hasher));
            self.branches[i].shape = hasher.finish();
        }
    }

    fn shape_of(&self, node: NodeNo) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.plan.task(node).hash(&mut hasher);
        self.plan.leaf(node).map(|leaf| leaf.call).hash(&mut hasher);
        // What a node is blocked by may differ between nodes that look alike.
        standing_of(self.standings, node).as_ref().map(discriminant).hash(&mut hasher);
        hasher.finish()
    }

    fn draw(&mut self) {
        if self.plan.is_empty() {
            return;
        }
        let root = self.branch_label(0);
        push(&mut self.out, format_args!("{root}\n"));
        let mut todo = Vec::new();
        self.push_lines(&mut todo, 0, "".into());
        while let Some(Line { indent, is_last, item }) = todo.pop() {
            let (corner, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let label = match item {
                Item::Branch(branch) => self.branch_label(branch),
                Item::Node(node) => self.node_label(node),
                Item::More(count) => format!("… {} more", thousands(count)),
            };
            push(&mut self.out, format_args!("{indent}{corner}{label}\n"));
            if let Item::Branch(branch) = item {
                self.push_lines(&mut todo, branch, format!("{indent}{below}").into());
            }
        }
    }

    /// Puts the lines below a branch on the stack, the first on top.
    fn push_lines(&self, todo: &mut Vec<Line>, branch: usize, indent: Rc<str>) {
        let Branch { nodes, children, .. } = &self.branches[branch];
        let nodes = if self.inline_node(branch).is_some() { &[][..] } else { nodes };
        let nodes = nodes.iter().map(|node| (Item::Node(*node), self.shape_of(*node)));
        let children = children.iter().map(|child| (Item::Branch(*child), self.branches[*child].shape));
        let items = fold(&nodes.chain(children).collect::<Vec<_>>(), self.fold_above);
        let lines = items.into_iter().rev().enumerate();
        todo.extend(lines.map(|(i, item)| Line { indent: indent.clone(), is_last: i == 0, item }));
    }

    /// The node that is drawn on the branch's own line: a leaf that stands alone in its place.
    fn inline_node(&self, branch: usize) -> Option<NodeNo> {
        match self.branches[branch].nodes[..] {
            [node] if self.plan.leaf(node).is_some() => Some(node),
            _ => None,
        }
    }

    fn branch_label(&self, branch: usize) -> String {
        let Branch { segment, children, .. } = &self.branches[branch];
        let what = match self.inline_node(branch) {
            Some(node) => self.node_label(node),
            None => match children.first().and_then(|child| self.branches[*child].segment) {
                Some(Segment::Chain(_)) => "chain".to_owned(),
                Some(Segment::Group(_)) => "group".to_owned(),
                Some(Segment::Header(_) | Segment::Body) => "chord".to_owned(),
                Some(Segment::Chunk(_)) => "chunks".to_owned(),
                Some(Segment::Added(_)) => "added".to_owned(),
                // Several nodes of one place: an error callback that covers each member of a group.
                Some(
                    Segment::Link(_)
                    | Segment::LinkError(_)
                    | Segment::Finally(_)
                    | Segment::Mapped
                    | Segment::Replacement,
                )
                | None => String::new(),
            },
        };
        let segment = segment.map(|segment| segment.to_string()).unwrap_or_default();
        [segment, what].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn node_label(&self, node: NodeNo) -> String {
        let call = self.labels.call(node);
        let mark = match standing_of(self.standings, node) {
            None => "",
            Some(Standing::Waiting) => "○ ",
            Some(Standing::Open) => "▶ ",
            Some(Standing::Replaced) => "↳ ",
            Some(Standing::Succeeded) => "✓ ",
            Some(Standing::Failed) => "✗ ",
            Some(Standing::Blocked(by)) => return format!("⊘ n{node} {call} (n{by} failed)"),
            Some(Standing::NotNeeded) => "– ",
        };
        format!("{mark}n{node} {call}")
    }
}

/// Of each long run of alike items keeps the first ones and the last.
fn fold(items: &[(Item, u64)], fold_above: usize) -> Vec<Item> {
    let mut lines = Vec::new();
    for run in items.chunk_by(|(_, one), (_, other)| one == other) {
        let hidden = run.len().saturating_sub(fold_above);
        let shown = run.iter().map(|(item, _)| *item);
        // One folded line in place of one other would hide something and save nothing.
        if hidden < 2 {
            lines.extend(shown);
            continue;
        }
        lines.extend(shown.take(fold_above - 1));
        lines.push(Item::More(hidden));
        lines.push(run[run.len() - 1].0);
    }
    lines
}
