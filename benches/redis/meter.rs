//! What a line costs: commands in Redis, CPU time and memory of each process.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::crew::{Crew, Member};

/// CPU seconds, in user and system mode.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    pub(crate) redis: f64,
    pub(crate) client: f64,
    pub(crate) coordinator: f64,
    pub(crate) worker: f64,
}

/// One command of Redis: how often it was called, also by scripts, and how long that took, in µs. The time of a script
/// has the time of the commands that it calls in it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Command {
    pub(crate) calls: u64,
    pub(crate) us: u64,
}

/// What has been used so far, or between two looks.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Usage {
    pub(crate) cpu: Cpu,
    pub(crate) commands: BTreeMap<String, Command>,
    /// How often Redis read from a connection and wrote to one, and how many bytes.
    pub(crate) traffic: BTreeMap<String, u64>,
}

/// Looks at Redis and at the processes.
pub(crate) struct Meter {
    connection: redis::Connection,
    redis: u32,
    coordinators: Vec<u32>,
    workers: Vec<u32>,
}

impl Usage {
    pub(crate) fn since(&self, before: &Usage) -> Usage {
        let (now, then) = (self.cpu, before.cpu);
        let cpu = Cpu {
            redis: now.redis - then.redis,
            client: now.client - then.client,
            coordinator: now.coordinator - then.coordinator,
            worker: now.worker - then.worker,
        };
        let known = |name: &str| before.commands.get(name).copied().unwrap_or_default();
        let commands = self.commands.iter().map(|(name, now)| {
            let then = known(name);
            (name.clone(), Command { calls: now.calls - then.calls, us: now.us - then.us })
        });
        let traffic = self.traffic.iter().map(|(name, now)| (name.clone(), now - before.traffic[name]));
        Usage {
            cpu,
            commands: commands.filter(|(_, command)| command.calls > 0).collect(),
            traffic: traffic.collect(),
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.commands.values().map(|command| command.calls).sum()
    }
}

impl Meter {
    pub(crate) fn new(url: &str, crew: &Crew) -> Result<Self, Box<dyn Error>> {
        let mut connection = redis::Client::open(url)?.get_connection()?;
        let server: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
        let pids = |members: &[Member]| members.iter().map(Member::pid).collect();
        Ok(Self {
            connection,
            redis: field(&server, "process_id").ok_or("Redis does not tell its process id")?.parse()?,
            coordinators: pids(&crew.coordinators),
            workers: pids(&crew.workers),
        })
    }

    /// How safe what Redis acknowledges is, in the words of `--durability`.
    pub(crate) fn durability(&mut self) -> Result<String, Box<dyn Error>> {
        let mut setting = |name: &str| -> Result<String, Box<dyn Error>> {
            let pair: Vec<String> = redis::cmd("CONFIG").arg("GET").arg(name).query(&mut self.connection)?;
            Ok(pair.get(1).cloned().unwrap_or_default())
        };
        Ok(if setting("appendonly")? == "yes" { setting("appendfsync")? } else { "none".to_owned() })
    }

    /// What has been used so far.
    pub(crate) fn usage(&mut self) -> Result<Usage, Box<dyn Error>> {
        let sum = |pids: &[u32]| pids.iter().map(|pid| cpu_seconds(*pid)).sum();
        let cpu = Cpu {
            redis: cpu_seconds(self.redis),
            client: cpu_seconds(std::process::id()),
            coordinator: sum(&self.coordinators),
            worker: sum(&self.workers),
        };
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut self.connection)?;
        let commands = info.lines().filter_map(command).filter(|(name, _)| name != "info").collect();
        let info: String = redis::cmd("INFO").arg("stats").query(&mut self.connection)?;
        let names = [
            "total_reads_processed",
            "total_writes_processed",
            "total_net_input_bytes",
            "total_net_output_bytes",
        ];
        let count = |name: &str| field(&info, name).and_then(|count| count.parse().ok()).unwrap_or(0);
        let traffic = names.iter().map(|name| ((*name).to_owned(), count(name))).collect();
        Ok(Usage { cpu, commands, traffic })
    }

    /// The most memory that each process has had, in MB, by role.
    pub(crate) fn memory(&mut self) -> Result<BTreeMap<&'static str, Vec<f64>>, Box<dyn Error>> {
        let all = |pids: &[u32]| pids.iter().map(|pid| peak_mb(*pid)).collect();
        Ok(BTreeMap::from([
            ("client", vec![peak_mb(std::process::id())]),
            ("coordinator", all(&self.coordinators)),
            ("worker", all(&self.workers)),
        ]))
    }
}

/// Looks every now and then how much memory the data in Redis takes. Redis keeps a peak of its own, which cannot be
/// reset, so that on a server shared by two systems it would tell nothing.
pub(crate) struct Watch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(url: &str) -> Result<Self, Box<dyn Error>> {
        let mut connection = redis::Client::open(url)?.get_connection()?;
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (peak.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let info: redis::RedisResult<String> =
                    redis::cmd("INFO").arg("memory").query(&mut connection);
                let Ok(info) = info else { return };
                let used = field(&info, "used_memory").and_then(|used| used.parse().ok());
                seen.fetch_max(used.unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Ok(Self { peak, stop, thread: Some(thread) })
    }

    /// The most since this was asked last, in MB.
    pub(crate) fn peak_mb(&self) -> f64 {
        self.peak.swap(0, Ordering::Relaxed) as f64 / 1e6
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// `cmdstat_get:calls=2,usec=3,…`
fn command(line: &str) -> Option<(String, Command)> {
    let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(':')?;
    let number = |what: &str| {
        numbers.split(',').find_map(|number| number.strip_prefix(what)?.strip_prefix('=')?.parse().ok())
    };
    Some((name.to_owned(), Command { calls: number("calls")?, us: number("usec")? }))
}

fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// As Linux tells it, in hundredths; 0 for a process on another machine.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may have spaces.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0 / 1e6
}
