//! Calling a task: whatever it does, there is an outcome.
//!
//! A task's future, its arguments, its result and what it throws are of its own making, and each may
//! panic when it is dropped. So they are dropped here, where that is caught: also when the leaf is past
//! its time limit or its lane is cut off.

use std::pin::Pin;
use std::task::{Context, Poll};

use celeriac_dsl::{Arguments, Handler, TaskContext, TaskDef};
use celeriac_primitives::{Json, Outcome, TaskError, TaskName};
use futures::future::BoxFuture;

use super::threads::Thread;
use crate::panics::{Panicked, caught};

/// Calls a task once. A blocking one is called on a thread, and holds it until it returns, also when
/// nobody waits for it any more. With the outcome comes the context, which knows for what the task has
/// asked.
pub(super) async fn call(
    task: &TaskDef,
    context: TaskContext,
    (args, kwargs): (Json, Json),
    thread: Option<&Thread>,
) -> (Outcome, TaskContext) {
    let (arguments, asked) = (Arguments::new(args, kwargs), context.clone());
    let outcome = match task.handler {
        Handler::Async(run) => match caught(|| run(context, arguments)) {
            Ok(future) => Contained { task: &task.name, future: Some(future) }.await,
            Err(panicked) => failed(&task.name, panicked),
        },
        Handler::Blocking(run) => {
            let (thread, name) = (thread.cloned(), task.name.clone());
            let call = move || {
                thread.iter().for_each(Thread::begins);
                let outcome =
                    caught(|| run(context, arguments)).unwrap_or_else(|panicked| failed(&name, panicked));
                // Before anybody hears of the outcome: the thread is free.
                drop(thread);
                outcome
            };
            match tokio::task::spawn_blocking(call).await {
                Ok(outcome) => outcome,
                // The runtime shuts down, and this lane with it: the leaf comes again.
                Err(_) => std::future::pending().await,
            }
        }
    };
    (asked.outcome(outcome), asked)
}

/// How a leaf ends that has panicked.
pub(super) fn failed(task: &TaskName, panicked: Panicked) -> Outcome {
    panicked.log(task, "a task has panicked; the failure of its leaf says with what");
    let text = panicked.text;
    let text = if text.is_empty() { "the task panicked".to_owned() } else { text };
    Outcome::Failed(TaskError::new("Panic", text))
}

/// A task's future. Neither polling nor dropping it panics.
struct Contained<'a> {
    task: &'a TaskName,
    future: Option<BoxFuture<'static, Outcome>>,
}

impl Future for Contained<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let future = self.future.as_mut().expect("it is not polled after its end");
        let outcome = match caught(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => outcome,
            Err(panicked) => {
                let _ = self.let_go();
                return Poll::Ready(failed(self.task, panicked));
            }
        };
        // A task is not done before its future is gone.
        Poll::Ready(self.let_go().map_or_else(|panicked| failed(self.task, panicked), |()| outcome))
    }
}

impl Contained<'_> {
    fn let_go(&mut self) -> Result<(), Panicked> {
        let future = self.future.take();
        caught(|| drop(future))
    }
}

impl Drop for Contained<'_> {
    fn drop(&mut self) {
        if let Err(panicked) = self.let_go() {
            panicked.log(self.task, "a task that was cut off has panicked");
        }
    }
}
