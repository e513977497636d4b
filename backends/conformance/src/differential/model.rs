//! What is known of both backends: which runs there are and how the engine says they stand, what is held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Event, EventDelivery, EventId, Lane};
use celeriac_engine::{Plan, RunState};
use celeriac_primitives::{Canvas, RunId, RunRef};

use super::operation::{Held, Pair, Side, Taken};

/// So many deliveries and acknowledged events are remembered.
const REMEMBERED: usize = 150;

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) runs: BTreeMap<RunRef, Tracked>,
    /// What was forgotten last under an id.
    pub(super) gone: BTreeMap<RunId, (RunRef, Canvas, Arc<Plan>)>,
    /// The latest deliveries, also those that nobody holds any more.
    pub(super) deliveries: VecDeque<Held>,
    /// Events that both have handed out and nobody has acknowledged.
    pub(super) events: Vec<Taken>,
    /// Events that were acknowledged lately.
    pub(super) past_events: VecDeque<Taken>,
    loose: Pair<Loose>,
    /// Lanes in which leaves of several runs may be in another order on each side.
    pub(super) unordered: BTreeSet<(Arc<str>, Lane)>,
    /// Runs that the subject alone announces, and how often.
    surplus: BTreeMap<RunRef, u32>,
}

/// Events that one backend has handed out and the other not yet, by what they say, each with its client.
/// Events of different queues may come in any order, so they are matched by what they say.
type Loose = BTreeMap<String, Vec<(Event, EventId, usize)>>;

/// A run that is there.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) canvas: Canvas,
    pub(super) plan: Arc<Plan>,
    /// How the engine says that it stands.
    pub(super) state: RunState,
    pub(super) retention: Option<Duration>,
    /// The versions of its status that were seen last.
    pub(super) versions: Option<Pair<u64>>,
}

impl Model {
    /// The run that has this id now.
    pub(super) fn current(&self, id: RunId) -> Option<(RunRef, &Tracked)> {
        self.runs.iter().find(|(run, _)| run.id == id).map(|(run, tracked)| (*run, tracked))
    }

    pub(super) fn remember(&mut self, held: Held) {
        self.deliveries.push_back(held);
        if self.deliveries.len() > REMEMBERED {
            self.deliveries.pop_front();
        }
    }

    /// Notes that deliveries are not held any more.
    pub(super) fn release<'h>(&mut self, gone: impl IntoIterator<Item = &'h Held>) {
        let gone: Vec<_> = gone.into_iter().map(|held| &held.ids.reference).collect();
        let held = self.deliveries.iter_mut().filter(|held| gone.contains(&&held.ids.reference));
        held.for_each(|held| held.is_held = false);
    }

    /// Notes that the subject alone announces a run: its event is not to be matched.
    pub(super) fn expect_surplus(&mut self, run: RunRef) {
        *self.surplus.entry(run).or_default() += 1;
    }

    /// Takes in events of one backend; returns those that it alone has and that are to be acknowledged at
    /// once.
    pub(super) fn take_in(&mut self, side: Side, client: usize, events: Vec<EventDelivery>) -> Vec<EventId> {
        let mut surplus = Vec::new();
        for EventDelivery { id, event, .. } in events {
            if let (Side::Subject, Event::Submitted(run)) = (side, &event)
                && let Some(count) = self.surplus.get_mut(run).filter(|count| **count > 0)
            {
                *count -= 1;
                surplus.push(id);
                continue;
            }
            let loose = match side {
                Side::Reference => &mut self.loose.reference,
                Side::Subject => &mut self.loose.subject,
            };
            // Debug shows no results.
            let outcome = match &event {
                Event::Submitted(_) => String::new(),
                Event::Completed(completion) => {
                    serde_json::to_string(&completion.outcome).expect("an outcome has a JSON form")
                }
            };
            loose.entry(format!("{event:?} {outcome}")).or_default().push((event, id, client));
        }
        surplus
    }

    /// Pairs the events that both backends have handed out.
    pub(super) fn match_events(&mut self) {
        let Pair { reference, subject } = &mut self.loose;
        for (key, ours) in reference.iter_mut() {
            let Some(theirs) = subject.get_mut(key) else { continue };
            let count = ours.len().min(theirs.len());
            for ((event, reference, _), (_, subject, client)) in
                ours.drain(..count).zip(theirs.drain(..count))
            {
                self.events.push(Taken { ids: Pair { reference, subject }, client, event });
            }
        }
        reference.retain(|_, events| !events.is_empty());
        subject.retain(|_, events| !events.is_empty());
    }

    /// How many events one backend alone has handed out.
    pub(super) fn loose(&self) -> Pair<usize> {
        let count = |loose: &Loose| loose.values().map(Vec::len).sum();
        Pair { reference: count(&self.loose.reference), subject: count(&self.loose.subject) }
    }

    /// The events that one backend alone has handed out, as text.
    pub(super) fn show_loose(&self) -> String {
        let Pair { reference, subject } = &self.loose;
        format!("reference alone: {:?}\nsubject alone: {:?}", reference.keys(), subject.keys())
    }

    /// Notes that events are acknowledged.
    pub(super) fn acknowledged(&mut self, events: &[Taken]) {
        self.events.retain(|known| !events.iter().any(|event| event.ids.reference == known.ids.reference));
        self.past_events.extend(events.iter().cloned());
        let many = self.past_events.len().saturating_sub(REMEMBERED);
        self.past_events.drain(..many);
    }
}
