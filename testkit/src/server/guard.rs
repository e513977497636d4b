//! A shell that outlives the test process, to clear up after it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reads process ids, one a line, and remembers the last; an empty line means that there is none. When nothing more
/// can come, because the other end of the pipe was closed or its process died in whatever way, it kills the last one
/// and removes the directory. What is killed may still write for a moment, hence the second attempt.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
while read -r line; do pid=$line; done
[ -z "$pid" ] || kill -9 "$pid"
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// Takes a process and a directory down when this is dropped, or when the process that holds this dies.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    pub(crate) fn start(directory: &Path) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whatever is sent to the group of the tests, Ctrl-C or a runner's SIGKILL, does not reach the guard.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }

    /// From now on this process is the one to take down.
    pub(crate) fn watch(&mut self, pid: u32) {
        self.tell(&pid.to_string());
    }

    /// The process has ended; its id may soon be another's.
    pub(crate) fn forget(&mut self) {
        self.tell("");
    }

    fn tell(&mut self, line: &str) {
        let pipe = self.pipe.as_mut().expect("the pipe is open until the guard is dropped");
        pipe.write_all(format!("{line}\n").as_bytes()).expect("the guard of the server runs");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}
