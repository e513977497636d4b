//! The members of a run's value, as they finish.

use std::collections::VecDeque;

use celeriac_engine::advance::Phase;
use celeriac_engine::plan::Value;
use celeriac_engine::view::{Standing, standings};
use celeriac_primitives::{Json, NodeNo};
use futures::stream::{self, Stream};
use serde::de::DeserializeOwned;

use crate::large::{complete, value};
use crate::{GetError, Handle};

/// A member's place in the list, and its value or why it has none.
type Member = (usize, Result<Json, GetError>);

impl<M: DeserializeOwned + Send> Handle<Vec<M>> {
    /// The members of the run's list as they finish, each with its place in the list. A member that failed, or can
    /// no longer run, comes as the error of the leaf that failed. Each member comes once; then the stream ends.
    ///
    /// Of a group that drops failures, a member that failed does not come, and the others keep the places that they
    /// have in the canvas; of one that collects them, it comes as its entry.
    ///
    /// The members of a list that one leaf returns come when it has returned; its failure comes as the only item. A
    /// backend that does not answer, or does not know the run any more, ends the stream after one error.
    pub fn members(&self) -> impl Stream<Item = (usize, Result<M, GetError>)> + Send + use<M> {
        stream(self)
    }
}

impl Handle<serde_json::Value> {
    /// The members of an untyped run's list as they finish: see [`Handle::members`] of typed runs.
    pub fn members(&self) -> impl Stream<Item = (usize, Result<serde_json::Value, GetError>)> + Send + use<> {
        stream(self)
    }
}

fn stream<T, M>(run: &Handle<T>) -> impl Stream<Item = (usize, Result<M, GetError>)> + Send + use<T, M>
where
    M: DeserializeOwned + Send,
{
    let typed = |(place, value): Member| (place, value.and_then(|value| Ok(value.to()?)));
    let watch = Watch::new(Handle::new(run.run, run.plan.clone(), run.app.clone()));
    stream::unfold(
        watch,
        move |mut watch| async move { watch.next().await.map(|member| (typed(member), watch)) },
    )
}

/// Members that are still awaited, and those that are ready to be handed out.
struct Watch {
    run: Handle<Json>,
    /// The run's value is no list of parts: it comes as a whole.
    whole: bool,
    /// Places and what has to succeed for each.
    awaited: Vec<(usize, Vec<NodeNo>)>,
    ready: VecDeque<Member>,
    version: u64,
}

impl Watch {
    fn new(run: Handle<Json>) -> Self {
        let members = items(&run).iter().enumerate();
        let awaited = members.map(|(place, value)| (place, value.needs())).collect();
        let whole = run.plan.list(run.plan.output()).is_none();
        Self { run, whole, awaited, ready: VecDeque::new(), version: 0 }
    }

    async fn next(&mut self) -> Option<Member> {
        if std::mem::take(&mut self.whole) {
            let value = self.run.get_json(None).await;
            match value.and_then(|value| Ok(value.to::<Vec<Json>>()?)) {
                Ok(items) => self.ready.extend(items.into_iter().map(Ok).enumerate()),
                Err(error) => return Some((0, Err(error))),
            }
        }
        while self.ready.is_empty() && !self.awaited.is_empty() {
            if let Err(error) = self.look().await {
                self.awaited.clear();
                return Some((0, Err(error)));
            }
        }
        self.ready.pop_front()
    }

    /// Waits for a change and sorts out the members that are done with.
    async fn look(&mut self) -> Result<(), GetError> {
        let status = self.run.changed(self.version, std::time::Duration::from_secs(10)).await?;
        self.version = status.version;
        let phases = self.run.phases().await?;
        let failed = phases.contains(&Phase::Failed);
        let standings = if failed { standings(&self.run.plan, &phases, status.ended()) } else { Vec::new() };
        let culprit = |node: &NodeNo| match standings.get(node.index()) {
            Some(Standing::Failed) => Some(*node),
            Some(Standing::Blocked(by)) => Some(*by),
            _ => None,
        };
        let (mut done, mut lost) = (Vec::new(), Vec::new());
        let (plan, items) = (&self.run.plan, items(&self.run));
        self.awaited.retain(|(place, needs)| {
            if needs.iter().all(|node| phases[node.index()] == Phase::Succeeded) {
                done.push(*place);
                return false;
            }
            let culprit = needs.iter().find_map(culprit);
            let tolerated = |node: NodeNo| items[*place].part().is_some_and(|part| plan.fails_in(node, part));
            if culprit.is_some_and(tolerated) {
                done.extend(Some(*place).filter(|_| !matches!(items[*place], Value::Kept(..))));
                return false;
            }
            lost.extend(culprit.map(|node| (*place, node)));
            culprit.is_none()
        });
        self.ready.extend(self.values(&done).await?);
        for (place, node) in lost {
            let failure = self.run.failure(node).await?;
            self.ready.push_back((place, Err(failure.into())));
        }
        Ok(())
    }

    async fn values(&self, places: &[usize]) -> Result<Vec<Member>, GetError> {
        let Handle { run, plan, .. } = &self.run;
        let items = items(&self.run);
        let (mut leaves, mut scopes) = (Vec::new(), Vec::new());
        for place in places {
            let (more_leaves, more_scopes) = plan.known_for(&items[*place]);
            leaves.extend(more_leaves);
            scopes.extend(more_scopes);
        }
        let known = self.run.known(&leaves, &scopes).await?;
        let known = complete(self.run.backend(), *run, known).await?;
        let (mut composer, mut members) = (plan.composer(), Vec::with_capacity(places.len()));
        for place in places {
            let mut values = Vec::with_capacity(1);
            match composer.item(&mut values, run.id, &items[*place], &known) {
                Ok(()) => members.extend(values.into_iter().map(|value| (*place, Ok(value.into())))),
                Err(_) => {
                    let own = value(self.run.backend(), *run, (plan, &items[*place]), &known).await?;
                    members.push((*place, own.ok_or_else(|| self.run.corrupt().into())));
                }
            }
        }
        Ok(members)
    }
}

/// The members of a run's value: the items of its list. (A list behind a join is one that something else takes too.)
fn items(run: &Handle<Json>) -> &[Value] {
    match run.plan.list(run.plan.output()) {
        Some(items) => items,
        None => &[],
    }
}
