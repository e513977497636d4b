//! Composing: from the results of predecessors to the arguments of a leaf.
//!
//! Results are put together as text. Nothing is parsed here, and nothing is copied more often than it is
//! sent.

use std::sync::Arc;

use celeriac_primitives::{
    Apart, Entry, Failure, Item, Json, LeafOptions, Members, NodeNo, Outcome, Path, Piece, Retry, Rope,
    RunId, RunRef, Segment, Stored, TaskMessage, argument_bytes,
};
use foldhash::{HashMap, HashMapExt as _};

use super::{Edge, Leaf, NodeKind, Plan, ScopeNo, Value};
use crate::advance::Release;

/// What is known of a run: where composing finds results.
pub trait Results {
    /// How a leaf ended, once it has.
    fn outcome(&self, node: NodeNo) -> Option<&Outcome>;
    /// The leaf whose failure closed a scope.
    fn closed_by(&self, scope: ScopeNo) -> Option<NodeNo>;
}

/// Why something is not put together as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// A part of it is not there, or it is nothing that can be written.
    Missing,
    /// It would be longer than the composer writes, or a part of it is kept apart.
    Long,
}

use NotWritten::{Long, Missing};

/// A message whose input is fetched by the worker.
#[derive(Clone, Debug)]
pub struct Referring {
    /// The message.
    pub message: TaskMessage,
    /// How many bytes its arguments have in all, as far as it is known.
    pub bytes: u64,
}

impl Plan {
    /// The message for a released leaf; `None` for a join, for an unknown node, and when a result that it
    /// takes is not there, or is kept apart.
    pub fn message(&self, run: RunRef, release: Release, results: &impl Results) -> Option<TaskMessage> {
        self.composer().message(run, release, results).ok()
    }

    /// The value of the run, once all its outputs have succeeded.
    pub fn output_value(&self, run: RunId, results: &impl Results) -> Option<Json> {
        self.composer().value(run, self.output(), results).ok()
    }

    /// A composer for several leaves of the same run: a list that many leaves take is put together once.
    pub fn composer(&self) -> Composer<'_> {
        self.composer_up_to(usize::MAX)
    }

    /// The same, which puts no inputs together that are longer than this.
    pub fn composer_up_to(&self, bytes_max: usize) -> Composer<'_> {
        Composer { plan: self, joins: HashMap::new(), bytes_max }
    }

    /// What has to be known to compose these leaves: the leaves whose outcomes they take, those that run
    /// again, and the scopes whose failures they report; each once, by number.
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
                Value::Const(..) | Value::Apart(_) | Value::Failure(_) => Some(left),
            }
        }
        let input = self.node(node).and_then(|node| node.input.as_ref());
        input.is_some_and(|input| count(self, input, most).is_none())
    }

    /// The leaves behind a value, joins looked through, in order.
    pub fn leaves_of(&self, value: &Value) -> Vec<NodeNo> {
        self.known_for(value).0
    }

    /// What has to be known to write a value: the leaves behind it, joins looked through, in order; and the
    /// scopes of which it tells by whom they were closed.
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
            Value::Const(..) | Value::Apart(_) => {}
        }
    }

    /// The failure that closed a scope.
    fn failure_of(&self, run: RunId, scope: ScopeNo, results: &impl Results) -> Option<Failure> {
        let node = results.closed_by(scope)?;
        self.failure(run, node, results.outcome(node)?)
    }

    /// How the leaf has ended in whose place the run succeeded: its value, and, when it had added something
    /// ([`Plan::compile_expansion`]), that beside it. What is longer than `bytes_max` is told by its pieces.
    /// `told` puts failures into the words of the leaf's own run. `None` when a part of it is not there.
    pub fn expanded(
        &self,
        run: RunRef,
        adds: bool,
        results: &impl Results,
        bytes_max: usize,
        told: &impl Fn(Failure) -> Failure,
    ) -> Option<Outcome> {
        let items = if adds { self.list(self.output())? } else { std::slice::from_ref(self.output()) };
        let (own, others) = items.split_first()?;
        let mut composer = self.composer_up_to(bytes_max);
        match composer.whole(run.id, own, others, results, told) {
            Ok(outcome) => Some(outcome),
            Err(Missing) => None,
            Err(Long) => composer.apart(run, own, others, results, told),
        }
    }

    /// What was added beside an item of a list.
    fn added<'r>(&self, item: &Value, results: &'r impl Results) -> &'r [Item] {
        let (Value::Node(node) | Value::Kept(node, _) | Value::Entry(node, _)) = item else { return &[] };
        let outcome = self.leaf(*node).and_then(|_| results.outcome(*node));
        outcome.map_or(&[], Outcome::added)
    }

    /// The same where it is kept apart.
    fn added_apart<'r>(&self, item: &Value, results: &'r impl Results) -> Option<&'r Rope> {
        let (Value::Node(node) | Value::Kept(node, _) | Value::Entry(node, _)) = item else { return None };
        match self.leaf(*node).and_then(|_| results.outcome(*node))? {
            Outcome::Apart(apart) => apart.added.as_ref(),
            _ => None,
        }
    }

    /// The options that a worker gets. A value that another node takes is kept, whatever was said about
    /// ignoring it.
    fn message_options(&self, node: NodeNo) -> Option<Arc<LeafOptions>> {
        let options = self.options(node)?;
        let is_taken = || self.successors(node).any(|(_, edge)| edge != Edge::After);
        if options.ignore_result == Some(true) && is_taken() {
            return Some(Arc::new(LeafOptions { ignore_result: None, ..LeafOptions::clone(options) }));
        }
        Some(options.clone())
    }

    /// A leaf's failure as data, when it has failed. When a canvas ran in its place, that of the leaf which
    /// failed there.
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

    /// A failure of what ran in the place of a leaf, as it is told here: the path of its node begins with the
    /// leaf's.
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
    bytes_max: usize,
}

/// Pieces of a text, the one that is being written last.
#[derive(Default)]
struct Pieces {
    done: Vec<Piece>,
    text: String,
}

impl Pieces {
    /// Adds a piece after the text before it.
    fn push(&mut self, piece: Piece) {
        if !self.text.is_empty() {
            self.done.push(Piece::Text(std::mem::take(&mut self.text).into()));
        }
        self.done.push(piece);
    }

    fn all(mut self) -> Vec<Piece> {
        if !self.text.is_empty() {
            self.done.push(Piece::Text(self.text.into()));
        }
        self.done
    }
}

impl Composer<'_> {
    /// See [`Plan::message`].
    ///
    /// # Errors
    /// See [`NotWritten`].
    pub fn message(
        &mut self,
        run: RunRef,
        release: Release,
        results: &impl Results,
    ) -> Result<TaskMessage, NotWritten> {
        let node = self.plan.node(release.node).ok_or(Missing)?;
        let NodeKind::Leaf(leaf) = &node.kind else { return Err(Missing) };
        if let Some(retry) = retry_of(release, results) {
            if let Some((args, kwargs)) = &retry.arguments {
                let message = self.called(run, release, leaf, args.clone(), kwargs.clone()).ok_or(Missing)?;
                return Ok(TaskMessage { replaced: true, ..message });
            }
            if retry.stored.is_some() {
                return Err(Long);
            }
        }
        if leaf.is_apart() {
            return Err(Long);
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
            .ok_or(Missing)
    }

    /// The message for a leaf whose arguments are large: the worker fetches the results that it takes. Of
    /// `results` it asks for failures and for sizes only. `None` when a failure that it takes is not there,
    /// and for a join.
    pub fn message_by_reference(
        &self,
        run: RunRef,
        release: Release,
        results: &impl Results,
    ) -> Option<Referring> {
        let node = self.plan.node(release.node)?;
        let NodeKind::Leaf(leaf) = &node.kind else { return None };
        let mut pieces = Pieces::default();
        let (mut args, mut kwargs) = ("[]".to_owned(), leaf.kwargs.clone());
        let other = retry_of(release, results).and_then(|retry| retry.stored.as_deref());
        let named = if let Some((args, named)) = other {
            pieces.push(Piece::Stored(*args));
            kwargs = "{}".into();
            Some(*named)
        } else {
            if let Some(input) = &node.input {
                self.refer(&mut pieces, run.id, input, results).ok()?;
            }
            if let Some(literal) = leaf.apart.as_ref().and_then(|apart| apart.args) {
                if node.input.is_some() {
                    pieces.text.push(',');
                }
                pieces.push(Piece::Stored(literal.stored(run)));
            } else {
                args = format!("[{}]", leaf.args);
            }
            leaf.apart.as_ref().and_then(|apart| apart.kwargs).map(|literal| literal.stored(run))
        };
        let input = pieces.all();
        let taken = input.iter().filter_map(|piece| piece.bytes(|node| results.outcome(node))).sum::<u64>();
        // Between what it takes and its own.
        let comma = u64::from(!input.is_empty() && args != "[]");
        let named_bytes = named.map_or(kwargs.len() as u64, |named: Stored| named.bytes);
        let bytes = argument_bytes(taken + comma + args.len() as u64, named_bytes);
        let message =
            self.called(run, release, leaf, Json::from_compact(args), Json::from_compact(kwargs))?;
        let (named, replaced) = (named.map(Box::new), other.is_some());
        Some(Referring { message: TaskMessage { input, named, replaced, ..message }, bytes })
    }

    /// How the leaf has ended in whose place this runs: see [`Plan::expanded`].
    fn whole(
        &mut self,
        run: RunId,
        own: &Value,
        others: &[Value],
        results: &impl Results,
        told: &impl Fn(Failure) -> Failure,
    ) -> Result<Outcome, NotWritten> {
        let value = self.value(run, own, results)?;
        let mut added = self.plan.added(own, results).to_vec();
        for item in others {
            self.item(&mut added, run, item, results)?;
        }
        let mut bytes = value.as_str().len();
        for item in &mut added {
            if let Item::Failure(failure) = item {
                **failure = told((**failure).clone());
            }
            bytes += item.text().len() + 1;
        }
        if bytes > self.bytes_max {
            return Err(Long);
        }
        Ok(match added.as_slice() {
            [] => Outcome::Success(value),
            _ => Outcome::Members(Box::new(Members { value, added })),
        })
    }

    /// The same with the value in pieces, and with what was added.
    fn apart(
        &self,
        run: RunRef,
        own: &Value,
        others: &[Value],
        results: &impl Results,
        told: &impl Fn(Failure) -> Failure,
    ) -> Option<Outcome> {
        let mut value = Pieces::default();
        self.refer(&mut value, run.id, own, results).ok()?;
        let mut added = Pieces::default();
        let mut comma = "";
        for item in self.plan.added(own, results) {
            added.text.push_str(comma);
            added.text.push_str(&item.text());
            comma = ",";
        }
        if let Some(rope) = self.plan.added_apart(own, results) {
            added.text.push_str(comma);
            rope.pieces.iter().for_each(|piece| added.push(piece.clone()));
            comma = ",";
        }
        for item in others {
            match item {
                Value::Kept(_, scope) if results.closed_by(*scope).is_some() => continue,
                Value::Entry(_, scope) if results.closed_by(*scope).is_some() => {
                    let failure = told(self.plan.failure_of(run.id, *scope, results)?);
                    added.text.push_str(comma);
                    Entry::<Json>::Error(Box::new(failure)).write(&mut added.text);
                }
                item => {
                    added.text.push_str(comma);
                    match self.adding(item, results) {
                        Some(adding) => added.push(adding),
                        None => self.refer(&mut added, run.id, item, results).ok()?,
                    }
                }
            }
            comma = ",";
        }
        let rope = |pieces: Pieces| {
            let mut bytes = 0;
            let mut all = Vec::with_capacity(pieces.done.len() + 1);
            for piece in pieces.all() {
                bytes += piece.bytes(|node| results.outcome(node))?;
                all.push(match piece {
                    piece @ (Piece::Text(_) | Piece::Stored(_) | Piece::Of(..)) => piece,
                    piece => Piece::Of(run, Box::new(piece)),
                });
            }
            Some(Rope { bytes, pieces: all })
        };
        let added = rope(added)?;
        let added = (!added.pieces.is_empty()).then_some(added);
        Some(Outcome::Apart(Box::new(Apart { value: rope(value)?, added })))
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

    /// Adds the pieces of a value.
    fn refer(
        &self,
        out: &mut Pieces,
        run: RunId,
        value: &Value,
        results: &impl Results,
    ) -> Result<(), NotWritten> {
        match value {
            Value::Const(known) => out.text.push_str(known.0.as_str()),
            Value::Apart(stored) => out.push(Piece::Stored(**stored)),
            Value::List(items) => {
                out.text.push('[');
                for (i, item) in kept(items, results).enumerate() {
                    if i > 0 {
                        out.text.push(',');
                    }
                    match self.adding(item, results) {
                        Some(adding) => out.push(adding),
                        None => self.refer(out, run, item, results)?,
                    }
                }
                out.text.push(']');
            }
            Value::Node(number) => match self.plan.node(*number).ok_or(Missing)? {
                super::Node { kind: NodeKind::Join, input: Some(input), .. } => {
                    self.refer(out, run, input, results)?;
                }
                _ => out.push(Piece::Result(*number)),
            },
            Value::Kept(node, _) => self.refer(out, run, &Value::Node(*node), results)?,
            Value::Entry(node, scope) => match results.closed_by(*scope) {
                Some(_) => self.error(run, *scope, results)?.write(&mut out.text),
                None => {
                    out.text.push_str(Entry::OK);
                    self.refer(out, run, &Value::Node(*node), results)?;
                    out.text.push('}');
                }
            },
            Value::Failure(scope) => out.text.push_str(self.failure(run, *scope, results)?.as_str()),
        }
        Ok(())
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
    fn error(&self, run: RunId, scope: ScopeNo, results: &impl Results) -> Result<Entry<Json>, NotWritten> {
        Ok(Entry::Error(Box::new(self.plan.failure_of(run, scope, results).ok_or(Missing)?)))
    }

    /// The failure that closed a scope, as JSON.
    fn failure(&self, run: RunId, scope: ScopeNo, results: &impl Results) -> Result<Json, NotWritten> {
        let failure = self.plan.failure_of(run, scope, results).ok_or(Missing)?;
        Ok(Json::new(&failure).expect("a failure has a JSON form"))
    }

    /// An item as it stands in its list, and what was added beside it; nothing of one that is left out.
    ///
    /// # Errors
    /// See [`NotWritten`].
    pub fn item(
        &mut self,
        out: &mut Vec<Item>,
        run: RunId,
        item: &Value,
        results: &impl Results,
    ) -> Result<(), NotWritten> {
        match item {
            Value::Entry(_, scope) if results.closed_by(*scope).is_some() => {
                let failure = self.plan.failure_of(run, *scope, results).ok_or(Missing)?;
                out.push(Item::Failure(Box::new(failure)));
            }
            Value::Kept(_, scope) if results.closed_by(*scope).is_some() => {}
            item => {
                out.push(Item::Value(self.value(run, item, results)?));
                out.extend_from_slice(self.plan.added(item, results));
            }
        }
        Ok(())
    }

    /// A value of the run in pieces; `None` when a part of it is not there.
    pub fn pieces(&self, run: RunId, value: &Value, results: &impl Results) -> Option<Vec<Piece>> {
        let mut pieces = Pieces::default();
        self.refer(&mut pieces, run, value, results).ok()?;
        Some(pieces.all())
    }

    /// A value of the run as JSON.
    ///
    /// # Errors
    /// See [`NotWritten`].
    pub fn value(&mut self, run: RunId, value: &Value, results: &impl Results) -> Result<Json, NotWritten> {
        match value {
            Value::Node(node) if self.plan.leaf(*node).is_some() => {
                let outcome = results.outcome(*node).ok_or(Missing)?;
                match outcome.value() {
                    Some(value) if value.as_str().len() <= self.bytes_max => Ok(value),
                    Some(_) => Err(Long),
                    None => Err(why_not(outcome)),
                }
            }
            value => {
                let mut text = String::new();
                self.write(&mut text, run, value, results)?;
                Ok(Json::from_compact(text))
            }
        }
    }

    fn write(
        &mut self,
        out: &mut String,
        run: RunId,
        value: &Value,
        results: &impl Results,
    ) -> Result<(), NotWritten> {
        match value {
            Value::Const(known) => self.add(out, known.0.as_str())?,
            Value::Apart(_) => return Err(Long),
            Value::List(items) => {
                out.push('[');
                for (i, item) in kept(items, results).enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    match self.adding(item, results) {
                        Some(adding) => self.write_adding(out, &adding, results)?,
                        None => self.write(out, run, item, results)?,
                    }
                }
                out.push(']');
            }
            Value::Node(number) => match &self.plan.node(*number).ok_or(Missing)?.kind {
                NodeKind::Leaf(_) => {
                    let outcome = results.outcome(*number).ok_or(Missing)?;
                    self.add(out, outcome.text().ok_or_else(|| why_not(outcome))?)?;
                }
                NodeKind::Join => {
                    let join = self.join(run, *number, results)?;
                    self.add(out, join.as_str())?;
                }
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
        Ok(())
    }

    /// Writes an item with those that it brings.
    fn write_adding(
        &self,
        out: &mut String,
        adding: &Piece,
        results: &impl Results,
    ) -> Result<(), NotWritten> {
        let (Piece::Item(node) | Piece::Entry(node)) = adding else { return Err(Missing) };
        let outcome = results.outcome(*node).ok_or(Missing)?;
        if outcome.text().is_none() {
            return Err(why_not(outcome));
        }
        let bytes = adding.bytes(|_| Some(outcome)).ok_or(Missing)?;
        if bytes > (self.bytes_max - self.bytes_max.min(out.len())) as u64 {
            return Err(Long);
        }
        let written = match adding {
            Piece::Item(_) => outcome.write_items(out),
            _ => outcome.write_entries(out),
        };
        written.ok_or(Missing)
    }

    /// Adds a text, unless it would be too long.
    fn add(&self, out: &mut String, text: &str) -> Result<(), NotWritten> {
        if out.len().saturating_add(text.len()) > self.bytes_max {
            return Err(Long);
        }
        out.push_str(text);
        Ok(())
    }

    fn join(&mut self, run: RunId, number: NodeNo, results: &impl Results) -> Result<Json, NotWritten> {
        if let Some(known) = self.joins.get(&number) {
            return Ok(known.clone());
        }
        let input = self.plan.node(number).and_then(|node| node.input.as_ref()).ok_or(Missing)?;
        let mut text = String::new();
        self.write(&mut text, run, input, results)?;
        let json = Json::from_compact(text);
        self.joins.insert(number, json.clone());
        Ok(json)
    }
}

/// Why an outcome has no text.
fn why_not(outcome: &Outcome) -> NotWritten {
    if matches!(outcome, Outcome::Apart(_)) { Long } else { Missing }
}

/// The items of a list but those that are left out, because their part has failed.
fn kept<'v>(items: &'v [Value], results: &impl Results) -> impl Iterator<Item = &'v Value> {
    let is_left_out =
        |item: &Value| matches!(item, Value::Kept(_, scope) if results.closed_by(*scope).is_some());
    items.iter().filter(move |item| !is_left_out(item))
}
