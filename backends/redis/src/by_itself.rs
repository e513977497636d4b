//! Steps that go on when whoever asked for them is not polled.
//!
//! A future that waits in a row, or has what others wait for, and that nobody polls, holds all of them up: it
//! has its place and does not move. Whoever takes what many waits bring, one after the other, and asks for
//! something in between does just that, and needs to know nothing of it: what is in a row moves by itself.

use std::panic::resume_unwind;

use tokio_util::task::AbortOnDropHandle;

/// Does it in a task of its own, which ends when this is dropped.
pub(crate) async fn by_itself<T: Send + 'static>(step: impl Future<Output = T> + Send + 'static) -> T {
    match AbortOnDropHandle::new(tokio::spawn(step)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is going, and this with it.
            Err(_) => std::future::pending().await,
        },
    }
}
