//! The scopes of a plan, seen from outside: what stands in each, and where in the canvas it lies.

use celeriac_primitives::{NodeNo, Path};

use crate::plan::{Plan, ScopeNo};

/// The tree of scopes, from the top down.
pub(super) struct Scopes {
    places: Vec<Place>,
}

/// One scope.
#[derive(Clone, Default)]
pub(super) struct Place {
    /// The nodes of which it is the innermost scope.
    pub(super) nodes: Vec<NodeNo>,
    /// The scopes directly inside it.
    pub(super) inner: Vec<ScopeNo>,
    /// The innermost canvas around all whose failure closes it; `None` for a scope without nodes.
    pub(super) covers: Option<Path>,
    /// The last node whose failure closes it.
    pub(super) last: Option<NodeNo>,
}

/// What to do next on a walk from the root scope down.
pub(super) enum Visit {
    Enter(ScopeNo),
    Leave(ScopeNo),
}

impl Scopes {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut places = vec![Place::default(); plan.scopes().len()];
        let is_root = |scope: ScopeNo| scope == ScopeNo::ROOT;
        for (number, node) in plan.nodes() {
            let place = &mut places[node.scope.index()];
            place.nodes.push(number);
            place.last = Some(number);
            if !is_root(node.scope) {
                place.covers = common(place.covers.take(), Some(plan.path(number)));
            }
        }
        // Inner scopes have larger numbers than those around them: what they cover is complete when it is passed on.
        let scopes: Vec<_> = plan.scopes().skip(1).collect();
        for (number, scope) in &scopes {
            places[scope.parent.index()].inner.push(*number);
        }
        for (number, scope) in scopes.iter().rev() {
            if scope.kind.goes_on() {
                let Place { covers, last, .. } = places[number.index()].clone();
                let parent = &mut places[scope.parent.index()];
                parent.last = parent.last.max(last);
                if !is_root(scope.parent) {
                    parent.covers = common(parent.covers.take(), covers);
                }
            }
        }
        Self { places }
    }

    pub(super) fn place(&self, scope: ScopeNo) -> &Place {
        &self.places[scope.index()]
    }

    /// Enters and leaves every scope, inner ones inside outer ones. Does not recurse, whatever the depth.
    pub(super) fn walk(&self, mut visit: impl FnMut(Visit)) {
        let mut todo = vec![Visit::Enter(ScopeNo::ROOT)];
        while let Some(next) = todo.pop() {
            if let Visit::Enter(scope) = next {
                todo.push(Visit::Leave(scope));
                todo.extend(self.place(scope).inner.iter().rev().map(|inner| Visit::Enter(*inner)));
            }
            visit(next);
        }
    }
}

/// The innermost canvas around two places.
fn common(one: Option<Path>, other: Option<Path>) -> Option<Path> {
    let (Some(one), Some(other)) = (&one, &other) else { return one.or(other) };
    let both = one.segments().iter().zip(other.segments());
    Some(both.take_while(|(one, other)| one == other).map(|(one, _)| *one).collect())
}
