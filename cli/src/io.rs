//! The streams a command uses, so that tests can bring their own.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::pin::Pin;

use crate::exit::{Exit, Stop};

/// Ready when the user wants to stop.
pub type Interrupt<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where a command reads and writes.
pub struct Io<'a> {
    pub(crate) stdin: &'a mut (dyn Read + Send),
    pub(crate) stdout: &'a mut (dyn Write + Send),
    pub(crate) stderr: &'a mut (dyn Write + Send),
    pub(crate) shows_progress: bool,
    pub(crate) interrupt: Interrupt<'a>,
}

impl<'a> Io<'a> {
    /// These streams, without a progress bar and without Ctrl-C.
    pub fn new(
        stdin: &'a mut (dyn Read + Send),
        stdout: &'a mut (dyn Write + Send),
        stderr: &'a mut (dyn Write + Send),
    ) -> Self {
        Self { stdin, stdout, stderr, shows_progress: false, interrupt: Box::pin(std::future::pending()) }
    }

    /// This process' streams: a progress bar when stderr is a terminal, and Ctrl-C.
    pub(crate) fn process(
        stdin: &'a mut (dyn Read + Send),
        stdout: &'a mut (dyn Write + Send),
        stderr: &'a mut (dyn Write + Send),
    ) -> Self {
        let shows_progress = std::io::stderr().is_terminal();
        let io = Self::new(stdin, stdout, stderr);
        Self { shows_progress, ..io }.interrupt(async {
            // Without a handler Ctrl-C ends the process as it always does.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    /// The same, stopped as by Ctrl-C when this is ready.
    #[must_use]
    pub fn interrupt(mut self, interrupt: impl Future<Output = ()> + Send + 'a) -> Self {
        self.interrupt = Box::pin(interrupt);
        self
    }

    /// Writes to stdout. A reader that has gone away is no error: it had enough.
    pub(crate) fn print(&mut self, text: &str) -> Result<Exit, Stop> {
        match self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Stop::new(Exit::Io, format!("stdout cannot be written: {error}")))
            }
            _ => Ok(Exit::Ok),
        }
    }

    /// Writes to stderr. When that fails there is nobody left to tell.
    pub(crate) fn say(&mut self, text: &str) {
        let _ = self.stderr.write_all(text.as_bytes()).and_then(|()| self.stderr.flush());
    }

    /// Writes an error to stderr, with nothing in it that a terminal would obey.
    pub(crate) fn complain(&mut self, message: &str) {
        let mut text = String::from("error: ");
        for character in message.chars() {
            match character {
                '\n' | '\t' => text.push(character),
                _ if character.is_control() => text.extend(character.escape_default()),
                _ => text.push(character),
            }
        }
        self.say(&(text + "\n"));
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("shows_progress", &self.shows_progress).finish_non_exhaustive()
    }
}
