//! A plan as bytes: one version byte, then MessagePack.
//!
//! Only what cannot be derived is stored. Bytes from outside are checked before anything is derived
//! from them, so a broken plan is an error and never a panic, a cycle or a node that waits for ever.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use celeriac_primitives::NodeNo;

use super::{CompileError, NodeKind, Parts, Plan, Scope, ScopeKind, ScopeNo, Value, is_inside};

const VERSION: u8 = 1;

/// What was compiled within limits of its own must be readable everywhere, so this bound is far above
/// them.
const VALUE_ITEMS_MAX: usize = 100_000_000;

/// Bytes that are no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Nothing at all.
    #[error("no bytes")]
    Empty,
    /// Written by another version.
    #[error("the plan has format {0}, this program reads format {VERSION}")]
    Version(u8),
    /// Not the encoding of a plan.
    #[error("broken plan: {0}")]
    Broken(#[from] rmp_serde::decode::Error),
    /// More bytes than there should be.
    #[error("broken plan: {0} bytes too many")]
    Trailing(usize),
    /// A part refers to another that is not there, or to one that comes after it.
    #[error("broken plan: {what} {index} refers to {to}, which is not before it")]
    Reference {
        /// The kind of part.
        what: &'static str,
        /// Its place.
        index: usize,
        /// What it refers to.
        to: usize,
    },
    /// The first scope is not the run, or another scope claims to be it.
    #[error("broken plan: scope {0} is not what its place requires")]
    Scope(usize),
    /// A node counts a part's end that may come twice or never, or that cannot be written.
    #[error("broken plan: node {0} waits for the end of something that is no part")]
    Part(usize),
    /// A value of more items than allowed.
    #[error(transparent)]
    Size(CompileError),
}

impl PlanError {
    /// Whether a later version of this program has written it, which can read it.
    pub fn is_later(&self) -> bool {
        matches!(self, Self::Version(version) if *version > VERSION)
    }
}

impl Plan {
    /// The plan as bytes. The same canvas gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        rmp_serde::encode::write(&mut bytes, &self.parts).expect("a plan has a MessagePack form");
        bytes
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// When the bytes are no plan of this version, or one that could not have come from a canvas.
    pub fn decode(bytes: &[u8]) -> Result<Plan, PlanError> {
        let (version, mut rest) = bytes.split_first().ok_or(PlanError::Empty)?;
        if *version != VERSION {
            return Err(PlanError::Version(*version));
        }
        let mut parts: Parts = rmp_serde::from_read(&mut rest)?;
        if !rest.is_empty() {
            return Err(PlanError::Trailing(rest.len()));
        }
        parts.check()?;
        parts.share_texts();
        Plan::build(parts, VALUE_ITEMS_MAX).map_err(PlanError::Size)
    }
}

impl Parts {
    /// Leaves that stand next to each other often have the same arguments, and nearly always the same
    /// keyword arguments: `{}`.
    fn share_texts(&mut self) {
        let mut before: Option<(Arc<str>, Arc<str>)> = None;
        for node in &mut self.nodes {
            let NodeKind::Leaf(leaf) = &mut node.kind else { continue };
            if let Some((args, kwargs)) = &before {
                if leaf.args == *args {
                    leaf.args = args.clone();
                }
                if leaf.kwargs == *kwargs {
                    leaf.kwargs = kwargs.clone();
                }
            }
            before = Some((leaf.args.clone(), leaf.kwargs.clone()));
        }
    }

    /// Every reference leads to a part that is there, and nodes, scopes and places come after what they
    /// refer to: so there is no cycle.
    fn check(&self) -> Result<(), PlanError> {
        for (i, scope) in self.scopes.iter().enumerate() {
            let is_root = scope.kind == ScopeKind::Root;
            if is_root != (i == 0) || (is_root && scope.parent != ScopeNo::ROOT) {
                return Err(PlanError::Scope(i));
            }
            before("scope", i, scope.parent.index(), i.max(1))?;
        }
        if self.scopes.is_empty() {
            return Err(PlanError::Scope(0));
        }
        for (i, place) in self.places.iter().enumerate() {
            if place.segment.is_some() == (i == 0) {
                return Err(PlanError::Reference { what: "place", index: i, to: i });
            }
            before("place", i, place.parent as usize, i.max(1))?;
        }
        for (i, node) in self.nodes.iter().enumerate() {
            before("node", i, node.scope.index(), self.scopes.len())?;
            before("node", i, node.place as usize, self.places.len())?;
            self.check_value("node", i, node.input.as_ref(), i)?;
            node.after.nodes.iter().try_for_each(|to| before("node", i, to.index(), i))?;
            node.after.gate.iter().try_for_each(|to| before("node", i, to.index(), self.scopes.len()))?;
            if let NodeKind::Leaf(leaf) = &node.kind {
                before("node", i, leaf.task as usize, self.tasks.len())?;
                before("node", i, leaf.options.unwrap_or(0) as usize, self.options.len().max(1))?;
                leaf.queue
                    .iter()
                    .try_for_each(|queue| before("node", i, *queue as usize, self.queues.len()))?;
            }
        }
        self.check_value("output", 0, Some(&self.output), self.nodes.len())?;
        self.check_scopes()?;
        self.check_parts()
    }

    fn check_value(
        &self,
        what: &'static str,
        i: usize,
        value: Option<&Value>,
        nodes: usize,
    ) -> Result<(), PlanError> {
        let mut result = Ok(());
        let Some(value) = value else { return Ok(()) };
        value.for_each_need(&mut |node: NodeNo, part| {
            if result.is_ok() {
                result = before(what, i, node.index(), nodes);
            }
            if let (Ok(()), Some(scope)) = (&result, part) {
                result = before(what, i, scope.index(), self.scopes.len());
            }
        });
        value.gate().iter().try_for_each(|gate| before(what, i, gate.index(), self.scopes.len()))?;
        result
    }

    /// A gated node may never run, and a failure in a detached scope, or in one that absorbs it, is
    /// nobody else's affair. So gated nodes stand in a detached scope (and not inside their gate, which
    /// would release them by their own failure), and nothing outside such a scope waits for the success
    /// of a node inside it: else a run could end undecided.
    fn check_scopes(&self) -> Result<(), PlanError> {
        let refer = |what, index, to| Err(PlanError::Reference { what, index, to });
        for (i, node) in self.nodes.iter().enumerate() {
            if let Some(gate) = node.gate()
                && (is_inside(&self.scopes, node.scope, gate) || self.detached(node.scope).is_none())
            {
                return refer("node", i, gate.index());
            }
            let mut leaving = None;
            let mut visit = |from: NodeNo, part: Option<ScopeNo>| {
                let scope = match part.map(|part| (part, &self.scopes[part.index()])) {
                    // That a part has ended is known where its failure ends.
                    Some((_, Scope { kind: ScopeKind::Absorb, parent })) => *parent,
                    Some((part, _)) => part,
                    None => self.nodes[from.index()].scope,
                };
                if self.ending(scope).is_some_and(|scope| !is_inside(&self.scopes, node.scope, scope)) {
                    leaving = Some(from);
                }
            };
            node.after.nodes.iter().for_each(|from| visit(*from, None));
            if let Some(input) = &node.input {
                input.for_each_need(&mut visit);
            }
            if let Some(from) = leaving {
                return refer("node", i, from.index());
            }
        }
        let mut leaving = None;
        self.output.for_each_node(&mut |from| {
            if self.ending(self.nodes[from.index()].scope).is_some() {
                leaving = Some(from);
            }
        });
        match (leaving, self.output.gate()) {
            (Some(from), _) => refer("output", 0, from.index()),
            (None, Some(gate)) => refer("output", 0, gate.index()),
            (None, None) => Ok(()),
        }
    }

    /// Who waits for the end of a part counts once: when the part's node succeeds, or when its scope is
    /// closed. So the node stands in that scope, every leaf whose failure closes the scope comes before
    /// the node, and who waits stands outside. And only joins wait thus, since a value that may be left
    /// out is only written as an item of a list.
    fn check_parts(&self) -> Result<(), PlanError> {
        // The node of each scope that somebody waits for.
        let mut ends = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let Some(input) = &node.input else { continue };
            let items = if let Value::List(items) = input { items } else { &[][..] };
            let is_well_placed = |value: &Value| !value.has_parts() || value.part().is_some();
            let is_entry = matches!(input, Value::Entry(..));
            let is_list = matches!(input, Value::List(_)) && items.iter().all(is_well_placed);
            if input.has_parts() && (node.kind != NodeKind::Join || !is_entry && !is_list) {
                return Err(PlanError::Part(i));
            }
            let mut wrong = false;
            input.for_each_need(&mut |from, part| {
                if let Some(scope) = part {
                    wrong |= *ends.entry(scope).or_insert(from) != from
                        || is_inside(&self.scopes, node.scope, scope);
                }
            });
            if wrong {
                return Err(PlanError::Part(i));
            }
        }
        if self.output.has_parts() || ends.contains_key(&ScopeNo::ROOT) {
            return Err(PlanError::Part(self.nodes.len()));
        }
        self.check_ends(&ends)
    }

    /// Backwards from the nodes that end parts: every leaf whose failure closes the scope of a part
    /// comes before the node that ends it.
    fn check_ends(&self, ends: &BTreeMap<ScopeNo, NodeNo>) -> Result<(), PlanError> {
        let is_end = |scope: &ScopeNo| ends.contains_key(scope);
        let heads = self.heads(&is_end);
        // For each scope of a part, the nodes that come before its end.
        let mut before: HashSet<(NodeNo, ScopeNo)> =
            ends.iter().map(|(scope, node)| (*node, *scope)).collect();
        for (i, node) in self.nodes.iter().enumerate().rev() {
            let number = NodeNo::from_index(i);
            for scope in self.closes(node.scope).filter(is_end) {
                if before.contains(&(number, scope)) {
                    before.extend(node.after.nodes.iter().map(|from| (*from, scope)));
                    if let Some(input) = &node.input {
                        input.for_each_need(&mut |from, part| match part.map(|part| heads.get(&part)) {
                            None => before.extend([(from, scope)]),
                            // The part may have failed, but it has begun.
                            Some(heads) => {
                                before.extend(heads.into_iter().flatten().map(|from| (*from, scope)))
                            }
                        });
                    }
                } else if node.kind != NodeKind::Join {
                    return Err(PlanError::Part(i));
                }
            }
        }
        let closes = |(scope, node): &(&ScopeNo, &NodeNo)| {
            self.closes(self.nodes[node.index()].scope).any(|closed| closed == **scope)
        };
        match ends.iter().find(|end| !closes(end)) {
            Some((_, node)) => Err(PlanError::Part(node.index())),
            None => Ok(()),
        }
    }

    /// For some scopes, the nodes outside that have succeeded before anything inside can begin.
    fn heads(&self, is_asked: &impl Fn(&ScopeNo) -> bool) -> BTreeMap<ScopeNo, BTreeSet<NodeNo>> {
        let mut heads: BTreeMap<ScopeNo, BTreeSet<NodeNo>> = BTreeMap::new();
        for node in &self.nodes {
            let mut from: BTreeSet<NodeNo> = node.after.nodes.iter().copied().collect();
            let mut needs = node.after.nodes.clone();
            if let Some(input) = &node.input {
                input.for_each_need(&mut |node, part| {
                    needs.push(node);
                    from.extend(Some(node).filter(|_| part.is_none()));
                });
            }
            let mut next = Some(node.scope);
            while let Some(scope) = next {
                let Scope { kind, parent } = &self.scopes[scope.index()];
                next = (!matches!(kind, ScopeKind::Root | ScopeKind::Detached)).then_some(*parent);
                let is_inside =
                    |from: &NodeNo| is_inside(&self.scopes, self.nodes[from.index()].scope, scope);
                if is_asked(&scope) && !needs.iter().any(is_inside) {
                    let known = heads.entry(scope).or_insert_with(|| from.clone());
                    known.retain(|node| from.contains(node));
                }
            }
        }
        heads
    }

    /// The scopes that a failure in this one closes, itself first.
    fn closes(&self, scope: ScopeNo) -> impl Iterator<Item = ScopeNo> {
        let next = |scope: &ScopeNo| {
            let Scope { kind, parent } = &self.scopes[scope.index()];
            kind.goes_on().then_some(*parent)
        };
        std::iter::successors(Some(scope), next)
    }

    /// The nearest scope around a scope, or itself, at which failures end.
    fn ending(&self, mut scope: ScopeNo) -> Option<ScopeNo> {
        while self.scopes[scope.index()].kind.goes_on() {
            scope = self.scopes[scope.index()].parent;
        }
        Some(scope).filter(|scope| self.scopes[scope.index()].kind != ScopeKind::Root)
    }

    /// The nearest detached scope around a scope, or itself.
    fn detached(&self, mut scope: ScopeNo) -> Option<ScopeNo> {
        loop {
            match self.scopes[scope.index()].kind {
                ScopeKind::Detached => return Some(scope),
                ScopeKind::Root => return None,
                ScopeKind::Errback | ScopeKind::Finally | ScopeKind::Absorb => {
                    scope = self.scopes[scope.index()].parent
                }
            }
        }
    }
}

fn before(what: &'static str, index: usize, to: usize, end: usize) -> Result<(), PlanError> {
    if to < end { Ok(()) } else { Err(PlanError::Reference { what, index, to }) }
}
