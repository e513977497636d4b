//! How a worker works.

use std::time::Duration;

use celeriac_backends::DEFAULT_QUEUE;

/// So many threads may hang before blocking leaves wait, also where few run at the same time.
const SPARE_MIN: usize = 16;

/// Leaves some of the 512 threads of a runtime to others.
const THREADS_MAX: usize = 448;

/// How a worker works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// The queues it takes leaves from; the first has precedence. None stands for the default queue.
    pub queues: Vec<String>,
    /// How many leaves it runs at the same time, at least one.
    pub concurrency: usize,
    /// How many leaves it holds besides, so that its lanes need not wait for the backend; by default as many as
    /// it is likely to begin within ten milliseconds. What it holds, no other worker can run.
    pub prefetch: Option<usize>,
    /// How many threads it has for blocking tasks, at least one; by default one for each leaf that it runs at the same
    /// time and as many to spare, at least 16, but no more than 448 in all, since a tokio runtime has 512 if it was not
    /// told otherwise. The spare ones are for tasks that hang: see [`Worker::hung_threads`](crate::Worker::hung_threads).
    pub threads: Option<usize>,
    /// How long it may hold a leaf without renewing; it renews three times as often.
    pub lease: Duration,
    /// How long a leaf whose task it does not know waits for a worker that does, before it fails: there may be one of
    /// another version.
    pub unknown_wait: Duration,
    /// How many bytes of arguments that did not travel with their messages its leaves may hold at the same time; a leaf
    /// that would hold more waits for the others. One alone may be larger.
    pub bytes_in_flight: u64,
    /// What it is called; something unique is added. By default the numbers of the process and of the worker in it.
    pub name: Option<String>,
}

impl Default for WorkerOptions {
    /// The default queue, 64 leaves at the same time, 30 seconds of lease, a minute for unknown tasks, and 256 MiB of
    /// large arguments.
    fn default() -> Self {
        Self {
            queues: vec![DEFAULT_QUEUE.to_owned()],
            concurrency: 64,
            prefetch: None,
            threads: None,
            lease: Duration::from_secs(30),
            unknown_wait: Duration::from_secs(60),
            bytes_in_flight: 256 << 20,
            name: None,
        }
    }
}

impl WorkerOptions {
    /// These options with so many leaves at the same time, at least one.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// These options with so many leaves in reserve.
    #[must_use]
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = Some(prefetch);
        self
    }

    /// These options with so many threads for blocking tasks, at least one.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// How many threads there may be for blocking tasks.
    pub(super) fn threads_max(&self) -> usize {
        let default = || self.concurrency.saturating_add(self.concurrency.max(SPARE_MIN)).min(THREADS_MAX);
        self.threads.unwrap_or_else(default).max(1)
    }

    /// These options with these queues.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// These options with this time for leaves whose task the worker does not know; zero fails them at once.
    #[must_use]
    pub fn unknown_wait(mut self, wait: Duration) -> Self {
        self.unknown_wait = wait;
        self
    }

    /// These options with so many bytes of large arguments at the same time.
    #[must_use]
    pub fn bytes_in_flight(mut self, bytes: u64) -> Self {
        self.bytes_in_flight = bytes;
        self
    }

    /// These options with this name, which need not be unique.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// These options with this lease.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }
}
