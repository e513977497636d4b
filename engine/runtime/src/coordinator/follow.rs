//! Following the events: a batch after the other.
//!
//! The next batch is asked for when the one before is handled: by then more has come, and many together cost
//! the least. Only where values are large the link to the store is what takes time, and it has two ways:
//! while one batch is written the next is read.

use std::pin::pin;
use std::time::Duration;

use celeriac_backends::{BackendError, Event, EventDelivery};
use futures::future::{BoxFuture, OptionFuture};

use super::Driver;
use super::held::Holding;
use super::pace::Pace;
use crate::patience::pause;

/// How long one wait for events lasts.
const WAIT: Duration = Duration::from_secs(60);

/// A batch whose values have so many bytes is large.
const LARGE_BYTES: usize = 256 * 1024;

/// How often the others in the runtime have their turn before a large batch is handled: what is asked for
/// has to pass a few tasks before it is on the link.
const START: usize = 8;

type Taken = Result<Vec<EventDelivery>, BackendError>;

type Asked<'d> = BoxFuture<'d, Option<Taken>>;

/// What was taken while a batch was handled.
type Early = (Vec<EventDelivery>, Holding);

impl Driver {
    pub(super) async fn follow_events(self) {
        let (mut pace, mut asked) = (Pace::new(self.options.batch_max), None);
        let mut early: Option<Early> = None;
        loop {
            let (events, holding) = match early.take() {
                Some((events, holding)) => (events, Some(holding)),
                None => match self.next(&mut asked, pace.max()).await {
                    Some(Ok(events)) => (events, None),
                    Some(Err(error)) => {
                        self.stop.run_until_cancelled(pause(&error)).await;
                        continue;
                    }
                    None => return,
                },
            };
            pace.note(&events);
            let is_large = bytes(&events) >= LARGE_BYTES;
            let answer = match holding {
                None if !is_large => self.handle_all(events).await,
                holding => {
                    let handling = Box::pin(self.handle_early(events, holding));
                    if is_large {
                        asked.get_or_insert_with(|| Box::pin(self.ask(pace.max())));
                        self.handle_and_take(handling, &mut asked, &mut early).await
                    } else {
                        handling.await
                    }
                }
            };
            if let Err(error) = answer {
                self.stop.run_until_cancelled(pause(&error)).await;
            }
        }
    }

    async fn next(&self, asked: &mut Option<Asked<'_>>, max: usize) -> Option<Taken> {
        match asked.take() {
            Some(asked) => asked.await,
            None => self.ask(max).await,
        }
    }

    /// Cancel safe by the backend's contract: a batch is handled to its end, or was not taken. `None` after
    /// the stop.
    async fn ask(&self, max: usize) -> Option<Taken> {
        self.stop.run_until_cancelled(self.backend.events(max, self.options.lease, WAIT)).await
    }

    async fn handle_early(
        &self,
        events: Vec<EventDelivery>,
        holding: Option<Holding>,
    ) -> Result<(), BackendError> {
        let handling = pin!(self.handle_all(events));
        match holding {
            Some(holding) => holding.watch(handling).await.unwrap_or(Ok(())),
            None => handling.await,
        }
    }

    /// Handles a batch, and takes the next one when it comes in the meantime.
    async fn handle_and_take(
        &self,
        handling: BoxFuture<'_, Result<(), BackendError>>,
        asked: &mut Option<Asked<'_>>,
        early: &mut Option<Early>,
    ) -> Result<(), BackendError> {
        // What is asked for is little, and goes before what is written: it has a start.
        let mut handling = Box::pin(async move {
            for _ in 0..START {
                tokio::task::yield_now().await;
            }
            handling.await
        });
        let taken = tokio::select! {
            biased;
            Some(taken) = OptionFuture::from(asked.as_mut()) => taken,
            answer = &mut handling => return answer,
        };
        *asked = None;
        match taken {
            Some(Ok(events)) => {
                // A batch that waits moves as long as the one before it does; when that is given up, so is
                // it.
                let holding = self.hold(&events);
                let answer = holding.watch(handling).await;
                if answer.is_some() {
                    *early = Some((events, holding));
                }
                answer.unwrap_or(Ok(()))
            }
            Some(Err(error)) => handling.await.and(Err(error)),
            None => handling.await,
        }
    }
}

fn bytes(events: &[EventDelivery]) -> usize {
    let weight = |delivery: &EventDelivery| match &delivery.event {
        Event::Completed(completion) => completion.outcome.weight(),
        Event::Submitted(_) => 0,
    };
    events.iter().map(weight).sum()
}
