//! Composing: from the results of predecessors to the arguments of a leaf.
//!
//! Results are put together as text. Nothing is parsed here, and nothing is copied more often than it is sent.

use std::collections::HashMap;
use std::sync::Arc;

use celeriac_primitives::{
    Entry, Failure, Item, Json, LeafOptions, Members, NodeNo, Outcome, Path, Piece, Retry, RunId, RunRef,
    Segment, TaskMessage,
};

use super::{Edge, Leaf, NodeKind, Plan, ScopeNo, Value};
use crate::advance::Release;

/// What is known of a run: where composing finds results.
pub trait Results {
    /// How a leaf ended, once it has.
    fn outcome(&self, node: NodeNo) -> Option<&Outcome>;
    /// The leaf whose failure closed a scope.
    fn closed_by(&self, scope: ScopeNo) -> Option<NodeNo>;
}

impl Plan {
    /// The message for a released leaf; `None` for a join, for an unknown node, and when a result that it takes is
    /// not there.
    pub fn message(&self, run: RunRef, release: Release, results: &impl Results) -> Option<TaskMessage> {
        self.composer().message(run, release, results)
    }

    /// The value of the run, once all its outputs have succeeded.
    pub fn output_value(&self, run: RunId, results: &impl Results) -> Option<Json> {
        self.composer().value(run, self.output(), results)
    }

    /// A composer for several leaves of the same run: a list that many leaves take is put together once.
    pub fn composer(&self) -> Composer<'_> {
        Composer { plan: self, joins: HashMap::new() }
    }

    /// What has to be known to compose these leaves: the leaves whose outcomes they take, those that run again, and the
    /// scopes whose failures they report; each once, by number.
    pub fn inputs(&self, released: &[Release]) -> (Vec<NodeNo>, Vec<ScopeNo>) {
        let (mut leaves, mut joins, mut scopes) = (Vec::new(), Vec::new(), Vec::new());
        leaves.extend(released.iter().filter(|release| release.attempt > 1).map(|release| release.node));
        for input in released.iter().filter_map(|release| self.node(release.node)?.input.as_ref()) {
            match input {
                // Often many leaves take the same list: look through its join once.
                Value::Node(node) => joins.push(*node),
                input => self.collect(input, &mut leaves, &mut scopes),
            }
        }
        joins.sort_unstable();
        joins.dedup();
        joins.into_iter().for_each(|node| self.collect(&Value::Node(node), &mut leaves, &mut scopes));
        leaves.sort_unstable();
        leaves.dedup();
        scopes.sort_unstable();
        scopes.dedup();
        (leaves, scopes)
    }

    /// Whether a leaf takes the results of more than `most` leaves.
    pub fn takes_more_than(&self, node: NodeNo, most: usize) -> bool {
        fn count(plan: &Plan, value: &Value, left: usize) -> Option<usize> {
            match value {
                Value::Node(number) => match plan.node(*number) {
                    Some(super::Node { kind: NodeKind::Join, input: Some(input), .. }) => {
                        count(plan, input, left)
                    }
                    _ => left.checked_sub(1),
                },
                Value::List(items) => items.iter().try_fold(left, |left, item| count(plan, item, left)),
                Value::Entry(node, _) | Value::Kept(node, _) => count(plan, &Value::Node(*node), left),
                Value::Const(..) | Value::Failure(_) => Some(left),
            }
        }
        let input = self.node(node).and_then(|node| node.input.as_ref());
        input.is_some_and(|input| count(self, input, most).is_none())
    }

    /// The leaves behind a value, joins looked through, in order.
    pub fn leaves_of(&self, value: &Value) -> Vec<NodeNo> {
        self.known_for(value).0
    }

    /// What has to be known to write a value: the leaves behind it, joins looked through, in order; and the scopes of
    /// which it tells by whom they were closed.
    pub fn known_for(&self, value: &Value) -> (Vec<NodeNo>, Vec<ScopeNo>) {
        let (mut leaves, mut scopes) = (Vec::new(), Vec::new());
        self.collect(value, &mut leaves, &mut scopes);
        (leaves, scopes)
    }

    fn collect(&self, value: &Value, leaves: &mut Vec<NodeNo>, scopes: &mut Vec<ScopeNo>) {
        match value {
            Value::Node(number) => match self.node(*number) {
                Some(super::Node { kind: NodeKind::Join, input: Some(input), .. }) => {
                    self.collect(input, leaves, scopes);
                }
                _ => leaves.push(*number),
            },
            Value::List(items) => items.iter().for_each(|item| self.collect(item, leaves, scopes)),
            Value::Entry(node, scope) | Value::Kept(node, scope) => {
                scopes.push(*scope);
                self.collect(&Value::Node(*node), leaves, scopes);
            }
            Value::Failure(scope) => scopes.push(*scope),
            Value::Const(..) => {}
        }
    }

    /// The failure that closed a scope.
    fn failure_of(&self, run: RunId, scope: ScopeNo, results: &impl Results) -> Option<Failure> {
        let node = results.closed_by(scope)?;
        self.failure(run, node, results.outcome(node)?)
    }

    /// How the leaf has ended in whose place the run succeeded: its value, and, when it had added something
    /// ([`Plan::compile_expansion`]), that beside it. `None` when a part of it is not there.
    pub fn expanded(&self, run: RunId, adds: bool, results: &impl Results) -> Option<Outcome> {
        let items = if adds { self.list(self.output())? } else { std::slice::from_ref(self.output()) };
        let (own, others) = items.split_first()?;
        let mut composer = self.composer();
        let value = composer.value(run, own, results)?;
        let mut added = self.added(own, results).to_vec();
        for item in others {
            composer.item(&mut added, run, item, results)?;
        }
        Some(match added.as_slice() {
            [] => Outcome::Success(value),
            _ => Outcome::Members(Box::new(Members { value, added })),
        })
    }

    /// What was added beside an item of a list.
    fn added<'r>(&self, item: &Value, results: &'r impl Results) -> &'r [Item] {
        let (Value::Node(node) | Value::Kept(node, _) | Value::Entry(node, _)) = item else { return &[] };
        let outcome = self.leaf(*node).and_then(|_| results.outcome(*node));
        outcome.map_or(&[], Outcome::added)
    }

    /// The options that a worker gets. A value that another node takes is kept, whatever was said about ignoring it.
    fn message_options(&self, node: NodeNo) -> Option<Arc<LeafOptions>> {
        let options = self.options(node)?;
        let is_taken = || self.successors(node).any(|(_, edge)| edge != Edge::After);
        if options.ignore_result == Some(true) && is_taken() {
            return Some(Arc::new(LeafOptions { ignore_result: None, ..LeafOptions::clone(options) }));
        }
        Some(options.clone())
    }

    /// A leaf's failure as data, when it has failed. When a canvas ran in its place, that of the leaf which failed there.
    pub fn failure(&self, run: RunId, node: NodeNo, outcome: &Outcome) -> Option<Failure> {
        if let Outcome::ReplacementFailed(inner) = outcome {
            return Some(self.failure_inside(node, inner));
        }
        Some(Failure {
            task_id: run.task(node),
            node: self.path(node).to_string(),
            task: self.task(node)?.clone(),
            state: outcome.state(),
            error: outcome.error()?,
        })
    }

    /// A failure of what ran in the place of a leaf, as it is told here: the path of its node begins with the leaf's.
    pub fn failure_inside(&self, leaf: NodeNo, inner: &Failure) -> Failure {
        let path = self.path(leaf).child(Segment::Replacement).to_string();
        // The outermost canvas has no path of its own.
        let is_whole = inner.node == Path::root().to_string();
        let node = if is_whole { path } else { format!("{path}.{}", inner.node) };
        Failure { node, ..inner.clone() }
    }
}

/// How the attempt before this one asked for it.
pub fn retry_of(release: Release, results: &impl Results) -> Option<&Retry> {
    if release.attempt < 2 {
        return None;
    }
    match results.outcome(release.node)? {
        Outcome::Retry(retry) => Some(retry),
        _ => None,
    }
}

/// Puts the inputs of a run's leaves together.
#[derive(Debug)]
pub struct Composer<'p> {
    plan: &'p Plan,
    joins: HashMap<NodeNo, Json>,
}

impl Composer<'_> {
    /// See [`Plan::message`].
    pub fn message(&mut self, run: RunRef, release: Release, results: &impl Results) -> Option<TaskMessage> {
        let node = self.plan.node(release.node)?;
        let NodeKind::Leaf(leaf) = &node.kind else { return None };
        if let Some((args, kwargs)) = retry_of(release, results).and_then(|retry| retry.arguments.as_ref()) {
            let message = self.called(run, release, leaf, args.clone(), kwargs.clone())?;
            return Some(TaskMessage { replaced: true, ..message });
        }
        let mut args = String::with_capacity(leaf.args.len() + 16);
        args.push('[');
        if let Some(input) = &node.input {
            self.write(&mut args, run.id, input, results)?;
            if !leaf.args.is_empty() {
                args.push(',');
            }
        }
        args.push_str(&leaf.args);
        args.push(']');
        self.called(run, release, leaf, Json::from_compact(args), Json::from_compact(leaf.kwargs.clone()))
    }

    /// The message for a leaf whose input is large: the worker fetches the results that it takes. Of `results` it asks
    /// for failures only. `None` for a leaf without an input, and when a failure that it takes is not there.
    pub fn message_by_reference(
        &self,
        run: RunRef,
        release: Release,
        results: &impl Results,
    ) -> Option<TaskMessage> {
        let node = self.plan.node(release.node)?;
        let (NodeKind::Leaf(leaf), Some(input)) = (&node.kind, &node.input) else { return None };
        let (mut pieces, mut text) = (Vec::new(), String::new());
        self.refer(&mut (&mut pieces, &mut text), run.id, input, results)?;
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        let (args, kwargs) = (format!("[{}]", leaf.args), leaf.kwargs.clone());
        let message =
            self.called(run, release, leaf, Json::from_compact(args), Json::from_compact(kwargs))?;
        Some(TaskMessage { input: pieces, ..message })
    }

    /// The message of a leaf with these arguments.
    fn called(
        &self,
        run: RunRef,
        release: Release,
        leaf: &Leaf,
        args: Json,
        kwargs: Json,
    ) -> Option<TaskMessage> {
        let Release { node, attempt } = release;
        let task = self.plan.task(node)?.clone();
        let mut message = TaskMessage::new(run.task(node), attempt, task, leaf.call, args, kwargs);
        message.options = self.plan.message_options(node);
        message.member = leaf.member.is_some();
        message.incarnation = run.incarnation;
        Some(message)
    }

    /// Adds the pieces of a value; the text is the piece that is being written.
    fn refer(
        &self,
        out: &mut (&mut Vec<Piece>, &mut String),
        run: RunId,
        value: &Value,
        results: &impl Results,
    ) -> Option<()> {
        match value {
            Value::Const(json, _) => out.1.push_str(json.as_str()),
            Value::List(items) => {
                out.1.push('[');
                for (i, item) in kept(items, results).enumerate() {
                    if i > 0 {
                        out.1.push(',');
                    }
                    match self.adding(item, results) {
                        Some(adding) => piece(out, adding),
                        None => self.refer(out, run, item, results)?,
                    }
                }
                out.1.push(']');
            }
            Value::Node(number) => match self.plan.node(*number)? {
                super::Node { kind: NodeKind::Join, input: Some(input), .. } => {
                    self.refer(out, run, input, results)?;
                }
                _ => piece(out, Piece::Result(*number)),
            },
            Value::Kept(node, _) => self.refer(out, run, &Value::Node(*node), results)?,
            Value::Entry(node, scope) => match results.closed_by(*scope) {
                Some(_) => self.error(run, *scope, results)?.write(out.1),
                None => {
                    out.1.push_str(Entry::OK);
                    self.refer(out, run, &Value::Node(*node), results)?;
                    out.1.push('}');
                }
            },
            Value::Failure(scope) => out.1.push_str(self.failure(run, *scope, results)?.as_str()),
        }
        Some(())
    }

    /// An item of a list that may bring others.
    fn adding(&self, item: &Value, results: &impl Results) -> Option<Piece> {
        let adds = |node| self.plan.leaf(node).is_some_and(|leaf| leaf.member.is_some());
        match item {
            Value::Node(node) | Value::Kept(node, _) if adds(*node) => Some(Piece::Item(*node)),
            Value::Entry(node, scope) if adds(*node) && results.closed_by(*scope).is_none() => {
                Some(Piece::Entry(*node))
            }
            _ => None,
        }
    }

    /// The entry of a part that has failed.
    fn error(&self, run: RunId, scope: ScopeNo, results: &impl Results) -> Option<Entry<Json>> {
        Some(Entry::Error(Box::new(self.plan.failure_of(run, scope, results)?)))
    }

    /// The failure that closed a scope, as JSON.
    fn failure(&self, run: RunId, scope: ScopeNo, results: &impl Results) -> Option<Json> {
        let failure = self.plan.failure_of(run, scope, results)?;
        Some(Json::new(&failure).expect("a failure has a JSON form"))
    }

    /// An item as it stands in its list, and what was added beside it; nothing of one that is left out. `None` when a part
    /// of it is not there.
    pub fn item(
        &mut self,
        out: &mut Vec<Item>,
        run: RunId,
        item: &Value,
        results: &impl Results,
    ) -> Option<()> {
        match item {
            Value::Entry(_, scope) if results.closed_by(*scope).is_some() => {
                out.push(Item::Failure(Box::new(self.plan.failure_of(run, *scope, results)?)));
            }
            Value::Kept(_, scope) if results.closed_by(*scope).is_some() => {}
            item => {
                out.push(Item::Value(self.value(run, item, results)?));
                out.extend_from_slice(self.plan.added(item, results));
            }
        }
        Some(())
    }

    /// A value of the run as JSON; `None` when a part of it is not there.
    pub fn value(&mut self, run: RunId, value: &Value, results: &impl Results) -> Option<Json> {
        match value {
            Value::Node(node) if self.plan.leaf(*node).is_some() => results.outcome(*node)?.value(),
            value => {
                let mut text = String::new();
                self.write(&mut text, run, value, results)?;
                Some(Json::from_compact(text))
            }
        }
    }

    fn write(&mut self, out: &mut String, run: RunId, value: &Value, results: &impl Results) -> Option<()> {
        match value {
            Value::Const(json, _) => out.push_str(json.as_str()),
            Value::List(items) => {
                out.push('[');
                for (i, item) in kept(items, results).enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    match self.adding(item, results) {
                        Some(adding) => adding.write(out, |node| results.outcome(node))?,
                        None => self.write(out, run, item, results)?,
                    }
                }
                out.push(']');
            }
            Value::Node(number) => match &self.plan.node(*number)?.kind {
                NodeKind::Leaf(_) => out.push_str(results.outcome(*number)?.text()?),
                NodeKind::Join => out.push_str(self.join(run, *number, results)?.as_str()),
            },
            Value::Kept(node, _) => self.write(out, run, &Value::Node(*node), results)?,
            Value::Entry(node, scope) => match results.closed_by(*scope) {
                Some(_) => self.error(run, *scope, results)?.write(out),
                None => {
                    out.push_str(Entry::OK);
                    self.write(out, run, &Value::Node(*node), results)?;
                    out.push('}');
                }
            },
            Value::Failure(scope) => out.push_str(self.failure(run, *scope, results)?.as_str()),
        }
        Some(())
    }

    fn join(&mut self, run: RunId, number: NodeNo, results: &impl Results) -> Option<Json> {
        if let Some(known) = self.joins.get(&number) {
            return Some(known.clone());
        }
        let input = self.plan.node(number)?.input.as_ref()?;
        let mut text = String::new();
        self.write(&mut text, run, input, results)?;
        let json = Json::from_compact(text);
        self.joins.insert(number, json.clone());
        Some(json)
    }
}

/// Adds a piece after the text before it.
fn piece(out: &mut (&mut Vec<Piece>, &mut String), piece: Piece) {
    if !out.1.is_empty() {
        out.0.push(Piece::Text(std::mem::take(out.1).into()));
    }
    out.0.push(piece);
}

/// The items of a list but those that are left out, because their part has failed.
fn kept<'v>(items: &'v [Value], results: &impl Results) -> impl Iterator<Item = &'v Value> {
    let is_left_out =
        |item: &Value| matches!(item, Value::Kept(_, scope) if results.closed_by(*scope).is_some());
    items.iter().filter(move |item| !is_left_out(item))
}
