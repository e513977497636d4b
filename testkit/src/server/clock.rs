//! The wall clock of a server, which a test may set while it runs: `clock.c` is loaded into it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Beside the data: what is loaded, and by how much it is wrong.
const LIBRARY: &str = "clock.so";
const FILE: &str = "clock";

/// The clock of the server that has its files here.
#[derive(Debug)]
pub(super) struct Clock<'d>(pub(super) &'d Path);

impl Clock<'_> {
    /// Compiles what is loaded.
    ///
    /// # Panics
    ///
    /// When there is no C compiler.
    pub(super) fn make(&self) {
        std::fs::write(self.file(), [0; 8]).expect("the directory is writable");
        let source = self.0.join("clock.c");
        std::fs::write(&source, include_str!("clock.c")).expect("the directory is writable");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(self.library()).arg(&source);
        let output = compiler.output().unwrap_or_else(|error| {
            panic!("a server with a clock of its own needs cc, and it does not start: {error}")
        });
        assert!(output.status.success(), "clock.c: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sets it by so many seconds ahead of the true time.
    pub(super) fn set(&self, seconds_ahead: i64) {
        let nanoseconds = seconds_ahead * 1_000_000_000;
        // As it is: the server has mapped it.
        let file = OpenOptions::new().write(true).open(self.file());
        let written = file.and_then(|mut file| file.write_all(&nanoseconds.to_ne_bytes()));
        written.expect("the directory is writable");
    }

    /// Has it loaded when the server starts.
    pub(super) fn load(&self, server: &mut Command) {
        let preload = if cfg!(target_os = "macos") { "DYLD_INSERT_LIBRARIES" } else { "LD_PRELOAD" };
        server.env(preload, self.library()).env("CELERIAC_CLOCK", self.file());
    }

    fn library(&self) -> PathBuf {
        self.0.join(LIBRARY)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}
