//! What tasks did, noted by themselves, outside the store: a file for each worker process, a line for each event.
//!
//! ```text
//! S <task id> <attempt> <µs> <digest of the arguments>          a call begins
//! E <task id> <attempt> <µs> <digest> <o, f or r>               it returns a value, fails, or asks to run again
//! F <task id> <µs>                                              a call begins in a run that is to be forgotten
//! K <task id> <µs>                                              a task is about to abort the process
//! P <µs> <µs>                                                   the process stood still
//! ```
//!
//! Each line is one write to the end of the file, so that a process that is killed has written what it has done. All
//! processes are on one machine and read one clock.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use celeriac::primitives::{RunId, TaskId};

/// The part of one process.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    /// Where it is noted which tasks have killed a process, for all of them.
    deaths: PathBuf,
}

/// Beside the directory of the ledger.
pub(crate) const DEATHS: &str = "deaths";

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Failed,
    Retry,
}

/// One call of a task, by one process.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) attempt: u32,
    /// Of its arguments.
    pub(crate) hash: u64,
    pub(crate) begun_us: u64,
    /// `None` when its process did not live to see it.
    pub(crate) ended: Option<(u64, End)>,
    /// The process, by the name of its file.
    pub(crate) process: usize,
}

/// All parts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The calls of each leaf in the order of their beginning.
    pub(crate) calls: HashMap<RunId, BTreeMap<TaskId, Vec<Call>>>,
    pub(crate) processes: Vec<String>,
    /// When a process stood still.
    pub(crate) stalls: Vec<(usize, u64, u64)>,
    /// When a task aborted its process.
    pub(crate) deaths: Vec<(usize, u64)>,
    /// When leaves began whose run was to be forgotten, and where.
    pub(crate) forgotten: Vec<(usize, TaskId, u64)>,
    /// Lines that cannot be read, but for the last of a file.
    pub(crate) unreadable: Vec<String>,
}

impl Writer {
    pub(crate) fn create(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path).expect("the ledger can be written");
        Self { file, deaths: path.parent().unwrap_or(path).with_file_name(DEATHS) }
    }

    pub(crate) fn begins(&self, task: TaskId, attempt: u32, hash: u64) {
        self.write(format_args!("S {task} {attempt} {} {hash:016x}\n", now_us()));
    }

    pub(crate) fn ends(&self, task: TaskId, attempt: u32, hash: u64, end: End) {
        let how = match end {
            End::Ok => 'o',
            End::Failed => 'f',
            End::Retry => 'r',
        };
        self.write(format_args!("E {task} {attempt} {} {hash:016x} {how}\n", now_us()));
    }

    pub(crate) fn begins_forgotten(&self, task: TaskId) {
        self.write(format_args!("F {task} {}\n", now_us()));
    }

    pub(crate) fn dies(&self, task: TaskId) {
        self.write(format_args!("K {task} {}\n", now_us()));
    }

    /// Whether no process has asked this for the task before.
    pub(crate) fn is_first_death(&self, task: TaskId) -> bool {
        File::create_new(self.deaths.join(task.to_string())).is_ok()
    }

    pub(crate) fn stalled(&self, from_us: u64, until_us: u64) {
        self.write(format_args!("P {from_us} {until_us}\n"));
    }

    fn write(&self, line: fmt::Arguments<'_>) {
        (&self.file).write_all(line.to_string().as_bytes()).expect("the ledger can be written");
    }
}

impl Ledger {
    /// Reads the files of a directory.
    pub(crate) fn read(directory: &Path) -> std::io::Result<Self> {
        let mut ledger = Self::default();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let process = ledger.processes.len();
            ledger.processes.push(entry.file_name().to_string_lossy().into_owned());
            let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned();
            for line in text.split_inclusive('\n') {
                // Of a process that was killed while it wrote, the last line may be torn.
                if line.ends_with('\n') && ledger.take(process, line.trim_end()).is_none() {
                    ledger.unreadable.push(line.to_owned());
                }
            }
        }
        for leaf in ledger.calls.values_mut().flat_map(BTreeMap::values_mut) {
            leaf.sort_by_key(|call| call.begun_us);
        }
        Ok(ledger)
    }

    fn take(&mut self, process: usize, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["P", from, until] = words[..] {
            self.stalls.push((process, from.parse().ok()?, until.parse().ok()?));
            return Some(());
        }
        if let ["F" | "K", task, us] = words[..] {
            let (task, us) = (task.parse().ok()?, us.parse().ok()?);
            match words[0] {
                "F" => self.forgotten.push((process, task, us)),
                _ => self.deaths.push((process, us)),
            }
            return Some(());
        }
        let [kind, task, attempt, us, hash, ..] = words[..] else { return None };
        let (task, attempt): (TaskId, u32) = (task.parse().ok()?, attempt.parse().ok()?);
        let (us, hash) = (us.parse().ok()?, u64::from_str_radix(hash, 16).ok()?);
        let calls = self.calls.entry(task.run()).or_default().entry(task).or_default();
        if kind == "S" {
            calls.push(Call { attempt, hash, begun_us: us, ended: None, process });
            return Some(());
        }
        let end = match *words.get(5)? {
            "o" => End::Ok,
            "f" => End::Failed,
            "r" => End::Retry,
            _ => return None,
        };
        let same = |call: &&mut Call| {
            call.process == process && call.attempt == attempt && call.hash == hash && call.ended.is_none()
        };
        calls.iter_mut().rev().find(same)?.ended = Some((us, end));
        Some(())
    }

    /// The calls of a run.
    pub(crate) fn run(&self, run: RunId) -> impl Iterator<Item = (TaskId, &[Call])> {
        self.calls
            .get(&run)
            .into_iter()
            .flat_map(|leaves| leaves.iter().map(|(task, calls)| (*task, calls.as_slice())))
    }
}

/// Tells arguments apart.
pub(crate) fn digest(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// The clock that all processes share.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_micros() as u64
}

#[cfg(test)]
mod tests {
    use celeriac::primitives::NodeNo;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_torn_last_line_is_no_matter() {
        let directory = tempfile::tempdir().unwrap();
        let parts = directory.path().join("ledger");
        std::fs::create_dir(&parts).unwrap();
        std::fs::create_dir(directory.path().join(DEATHS)).unwrap();
        let path = parts.join("worker-1.1");
        let task = RunId::from_parts(1, 2).task(NodeNo::from_index(0));
        let writer = Writer::create(&path);
        writer.begins(task, 1, 0xabc);
        writer.ends(task, 1, 0xabc, End::Retry);
        writer.begins(task, 2, 0xabc);
        writer.stalled(5, 9);
        writer.begins_forgotten(task);
        writer.dies(task);
        writer.write(format_args!("E {task} 2 17"));
        assert_eq!([1, 2].map(|_| writer.is_first_death(task)), [true, false]);
        let ledger = Ledger::read(&parts).unwrap();
        let (_, calls) = ledger.run(task.run()).next().unwrap();
        let seen: Vec<_> = calls.iter().map(|call| (call.attempt, call.ended.map(|(_, end)| end))).collect();
        assert_eq!(seen, [(1, Some(End::Retry)), (2, None)]);
        assert_eq!((ledger.stalls, ledger.unreadable.len()), (vec![(0, 5, 9)], 0));
        assert_eq!((ledger.forgotten.len(), ledger.deaths.len()), (1, 1));
    }
}
