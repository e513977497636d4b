//! What tells a command to stop: Ctrl-C, SIGTERM, or a future that tests bring.

use std::fmt;
use std::pin::Pin;

use crate::exit::Exit;

/// How somebody wants a command to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// How a command ends that stops at once.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
        })
    }
}

/// Signals, as they come.
pub(crate) enum Signals<'a> {
    /// Never any.
    None,
    /// Those of this process. Until a command asks for the first, they end the process as they always do.
    Process(Option<Listener>),
    /// One interrupt, when this is ready.
    Once(Pin<Box<dyn Future<Output = ()> + Send + 'a>>),
}

impl Signals<'_> {
    /// Waits for the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        match self {
            Self::None => std::future::pending().await,
            Self::Process(listener) => match listener.get_or_insert_with(Listener::new).next().await {
                Some(signal) => signal,
                None => std::future::pending().await,
            },
            Self::Once(interrupt) => {
                interrupt.await;
                *self = Self::None;
                Signal::Interrupt
            }
        }
    }
}

/// Where this process' signals arrive. A signal that cannot be listened to keeps its old meaning.
#[cfg(unix)]
pub(crate) struct Listener {
    interrupt: Option<tokio::signal::unix::Signal>,
    terminate: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Listener {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    async fn next(&mut self) -> Option<Signal> {
        async fn come(signal: &mut Option<tokio::signal::unix::Signal>) {
            let came = match signal {
                Some(signal) => signal.recv().await,
                None => None,
            };
            if came.is_none() {
                std::future::pending().await
            }
        }
        tokio::select! {
            () = come(&mut self.interrupt) => Some(Signal::Interrupt),
            () = come(&mut self.terminate) => Some(Signal::Terminate),
        }
    }
}

#[cfg(not(unix))]
pub(crate) struct Listener;

#[cfg(not(unix))]
impl Listener {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) -> Option<Signal> {
        tokio::signal::ctrl_c().await.ok().map(|()| Signal::Interrupt)
    }
}
