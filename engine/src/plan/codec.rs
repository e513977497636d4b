//! A plan as bytes: one version byte, then MessagePack.
//!
//! Only what cannot be derived is stored. Bytes from outside are checked before anything is derived from them, so a
//! broken plan is an error and never a panic, a cycle or a node that waits for ever.

use celeriac_primitives::NodeNo;

use super::{CompileError, NodeKind, Parts, Plan, ScopeKind, ScopeNo, Value};

const VERSION: u8 = 1;

/// What was compiled within limits of its own must be readable everywhere, so this bound is far above them.
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
    /// A value of more items than allowed.
    #[error(transparent)]
    Size(CompileError),
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
        let parts: Parts = rmp_serde::from_read(&mut rest)?;
        if !rest.is_empty() {
            return Err(PlanError::Trailing(rest.len()));
        }
        parts.check()?;
        Plan::build(parts, VALUE_ITEMS_MAX).map_err(PlanError::Size)
    }
}

impl Parts {
    /// Every reference leads to a part that is there, and nodes, scopes and places come after what they refer to:
    /// so there is no cycle.
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
        self.check_scopes()
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
        value.for_each_node(&mut |node: NodeNo| {
            if result.is_ok() {
                result = before(what, i, node.index(), nodes);
            }
        });
        value.gate().iter().try_for_each(|gate| before(what, i, gate.index(), self.scopes.len()))?;
        result
    }

    /// A gated node may never run, and a failure in a detached scope is nobody else's affair. So gated nodes stand in
    /// a detached scope (and not inside their gate, which would release them by their own failure), and nothing
    /// outside a detached scope waits for a node inside it: else a run could end undecided.
    fn check_scopes(&self) -> Result<(), PlanError> {
        let refer = |what, index, to| Err(PlanError::Reference { what, index, to });
        for (i, node) in self.nodes.iter().enumerate() {
            if let Some(gate) = node.gate()
                && (self.is_inside(node.scope, gate) || self.detached(node.scope).is_none())
            {
                return refer("node", i, gate.index());
            }
            let mut leaving = None;
            let mut visit = |from: NodeNo| {
                let scope = self.detached(self.nodes[from.index()].scope);
                if scope.is_some_and(|scope| !self.is_inside(node.scope, scope)) {
                    leaving = Some(from);
                }
            };
            node.after.nodes.iter().copied().for_each(&mut visit);
            if let Some(input) = &node.input {
                input.for_each_node(&mut visit);
            }
            if let Some(from) = leaving {
                return refer("node", i, from.index());
            }
        }
        let mut leaving = None;
        self.output.for_each_node(&mut |from| {
            if self.detached(self.nodes[from.index()].scope).is_some() {
                leaving = Some(from);
            }
        });
        match (leaving, self.output.gate()) {
            (Some(from), _) => refer("output", 0, from.index()),
            (None, Some(gate)) => refer("output", 0, gate.index()),
            (None, None) => Ok(()),
        }
    }

    fn is_inside(&self, mut scope: ScopeNo, outer: ScopeNo) -> bool {
        while scope != outer && scope != ScopeNo::ROOT {
            scope = self.scopes[scope.index()].parent;
        }
        scope == outer
    }

    /// The nearest detached scope around a scope, or itself.
    fn detached(&self, mut scope: ScopeNo) -> Option<ScopeNo> {
        loop {
            match self.scopes[scope.index()].kind {
                ScopeKind::Detached => return Some(scope),
                ScopeKind::Root => return None,
                ScopeKind::Errback => scope = self.scopes[scope.index()].parent,
            }
        }
    }
}

fn before(what: &'static str, index: usize, to: usize, end: usize) -> Result<(), PlanError> {
    if to < end { Ok(()) } else { Err(PlanError::Reference { what, index, to }) }
}
