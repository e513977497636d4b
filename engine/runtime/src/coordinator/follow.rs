//! Following the events: a batch after the other.
//!
//! The next batch is asked for when the one before is handled: by then more has come, and many together cost the
//! least. Only where values are large the link to the store is what takes time, and it has two ways: while one
//! batch is written the next is read.

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

type Asked<'d> = BoxFuture<'d, Option<Result<Vec<EventDelivery>, BackendError>>>;

/// What was taken while a batch was handled.
type Early = (Vec<EventDelivery>, Holding);

impl Driver {
    pub(super) async fn follow_events(self) {
        let (mut pace, mut asked) = (Pace::new(self.options.batch_max), None);
        let mut early: Option<Early> = None;
        loop {
            let (events, holding) = match early.take() {
                Some((events, holding)) => (events, Some(holding)),
                None => match asked.take().unwrap_or_else(|| self.ask(pace.max())).await {
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
            let handling = async {
                let handling = self.handle_all(events);
                match holding {
                    Some(holding) => holding.watch(handling).await.unwrap_or(Ok(())),
                    None => handling.await,
                }
            };
            let answer = if is_large {
                asked.get_or_insert_with(|| self.ask(pace.max()));
                self.handle_and_take(handling, &mut asked, &mut early).await
            } else {
                handling.await
            };
            if let Err(error) = answer {
                self.stop.run_until_cancelled(pause(&error)).await;
            }
        }
    }

    /// Cancel safe by the backend's contract: a batch is handled to its end, or was not taken. `None` after the
    /// stop.
    fn ask(&self, max: usize) -> Asked<'_> {
        let events = self.backend.events(max, self.options.lease, WAIT);
        Box::pin(self.stop.run_until_cancelled(events))
    }

    /// Handles a batch, and takes the next one when it comes in the meantime.
    async fn handle_and_take(
        &self,
        handling: impl Future<Output = Result<(), BackendError>>,
        asked: &mut Option<Asked<'_>>,
        early: &mut Option<Early>,
    ) -> Result<(), BackendError> {
        let mut handling = pin!(handling);
        // What is asked for is little, and goes before what is written.
        let taken = tokio::select! {
            biased;
            Some(taken) = OptionFuture::from(asked.as_mut()) => taken,
            answer = &mut handling => return answer,
        };
        *asked = None;
        match taken {
            Some(Ok(events)) => {
                // A batch that waits moves as long as the one before it does; when that is given up, so is it.
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
