//! Coordinators, workers and their Redis: started, killed, paused and stopped, and started again.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::app;
use crate::faults::{Fault, Faults, Kind};
use crate::ledger::now_us;
use crate::options::{GRACE, Ingredient, LEASE, Options, SWEEP, Victim};
use crate::place::Place;
use crate::slots::Mover;

/// How long an orderly stop may take: what runs finishes, and then Redis may be away.
const STOP_MAX: Duration = Duration::from_secs(GRACE.as_secs() + 12);

/// It is looked this often who the masters are. A node is held for down after a second, and elections take
/// about as long: what was lost when there is another was said in the last moments before.
const MASTERS_EVERY: Duration = Duration::from_millis(200);
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(5);

/// Everybody.
#[derive(Debug)]
pub(crate) struct Crew {
    place: Arc<Place>,
    directory: PathBuf,
    members: Vec<Member>,
    /// Of each node of Redis.
    nodes: Vec<State>,
    mover: Option<Mover>,
    /// Until when Redis has no room for anything.
    full: Option<Instant>,
    deliveries_max: String,
    pub(crate) faults: Faults,
    /// Who was aborted, by one of the tasks as it should be.
    pub(crate) aborted: Vec<String>,
    /// What no process should do.
    pub(crate) wrong: Vec<String>,
    /// How often a process ended with 1 because it found no Redis.
    pub(crate) without_redis: usize,
    is_healing: bool,
    /// With replicas, the ports of the masters as they were seen last, and when to look again.
    masters: (Vec<u16>, Instant),
}

/// Who can be killed: a place in the crew, or a node of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Member(usize),
    Node(usize),
}

/// One place in the crew, taken by one process after the other.
#[derive(Debug)]
struct Member {
    kind: Victim,
    name: String,
    generation: u32,
    child: Option<Child>,
    started_us: u64,
    state: State,
    /// When it is told to stop once more.
    told_again: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Runs,
    /// Is to be started then.
    Down(Instant),
    /// Goes on then.
    Paused(Instant),
    /// Was told to stop then.
    Stops(Instant),
}

impl Crew {
    pub(crate) fn start(place: Arc<Place>, directory: &Path, options: &Options) -> Self {
        let member = |kind, name: &str, number| Member {
            kind,
            name: format!("{name}-{number}"),
            generation: 0,
            child: None,
            started_us: 0,
            state: State::Down(Instant::now()),
            told_again: None,
        };
        let coordinators = (1..=options.coordinators).map(|i| member(Victim::Coordinators, "coordinator", i));
        let workers = (1..=options.workers).map(|i| member(Victim::Workers, "worker", i));
        let members = coordinators.chain(workers).collect();
        // Without tasks that kill it, a worker that goes away was killed by somebody else.
        let is_their_fault = options.with().has(Ingredient::Killers);
        let moves = options.with().has(Ingredient::Slots) && place.cluster().is_some();
        let mut crew = Self {
            nodes: vec![State::Runs; place.nodes().len()],
            mover: moves.then(|| Mover::new(options.seed())),
            place,
            directory: directory.to_owned(),
            members,
            full: None,
            deliveries_max: if is_their_fault { options.deliveries_max } else { 1000 }.to_string(),
            faults: Faults::default(),
            aborted: Vec::new(),
            wrong: Vec::new(),
            without_redis: 0,
            is_healing: false,
            masters: (Vec::new(), Instant::now()),
        };
        crew.tend();
        crew
    }

    /// Who can be killed now.
    pub(crate) fn targets(&self, kind: Victim) -> Vec<Target> {
        let may = |state: State| matches!(state, State::Runs | State::Paused(_));
        if kind != Victim::Redis {
            let of_kind = |i: &usize| self.members[*i].kind == kind && may(self.members[*i].state);
            return (0..self.members.len()).filter(of_kind).map(Target::Member).collect();
        }
        let running = (0..self.nodes.len()).filter(|node| may(self.nodes[*node])).map(Target::Node);
        let Some(cluster) = self.place.cluster() else { return running.collect() };
        // A node that starts again has room, and the others have none: one fault at a time.
        if self.full.is_some() {
            return Vec::new();
        }
        if !self.place.has_replicas() {
            return running.collect();
        }
        // Its replica has to be able to take over; and it knows nothing of slots that are half way.
        if !self.all_run() || !cluster.is_complete() {
            return Vec::new();
        }
        let moving = self.mover.as_ref().and_then(Mover::nodes).unwrap_or([usize::MAX; 2]);
        let masters: Vec<u16> = cluster.masters().iter().map(|node| node.port()).collect();
        let may_go =
            |node: &usize| masters.contains(&cluster.nodes()[*node].port()) && !moving.contains(node);
        (0..self.nodes.len()).filter(may_go).map(Target::Node).collect()
    }

    /// Whether a node of Redis that is killed may be away until others notice.
    pub(crate) fn is_cluster(&self) -> bool {
        self.place.cluster().is_some()
    }

    fn all_run(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node, State::Runs))
    }

    /// Kills somebody with SIGKILL, and starts it again after this time.
    pub(crate) fn kill(&mut self, target: Target, pause: Duration) {
        let (until, now) = (Instant::now() + pause, now_us());
        let place = match target {
            Target::Node(node) => {
                self.note(Kind::Kill, target);
                self.place.nodes()[node].kill();
                // It is as large as before when it starts again.
                self.full = None;
                self.nodes[node] = State::Down(until);
                return;
            }
            Target::Member(place) => place,
        };
        self.close(place, Kind::Pause, now);
        self.note(Kind::Kill, target);
        let member = &mut self.members[place];
        if let Some(mut child) = member.child.take() {
            child.kill().expect("a member is a child of this process");
            let status = child.wait().expect("what was killed ends");
            self.close(place, Kind::Kill, now_us());
            // It may have ended by itself just before.
            if status.signal() != Some(9) {
                self.judge(place, status);
            }
        }
        self.members[place].state = State::Down(until);
    }

    /// Stops somebody with SIGSTOP for this time.
    pub(crate) fn pause(&mut self, target: Target, time: Duration) {
        self.note(Kind::Pause, target);
        let state = State::Paused(Instant::now() + time);
        match target {
            Target::Node(node) => {
                self.place.nodes()[node].pause();
                self.nodes[node] = state;
            }
            Target::Member(place) => {
                self.members[place].signal(Signal::STOP);
                self.members[place].state = state;
            }
        }
    }

    /// Asks a process to stop, and once more after this time.
    pub(crate) fn stop(&mut self, target: Target, again: Option<Duration>) {
        let Target::Member(place) = target else { return };
        self.note(Kind::Stop, target);
        let member = &mut self.members[place];
        member.signal(Signal::TERM);
        member.state = State::Stops(Instant::now());
        member.told_again = again.map(|time| Instant::now() + time);
    }

    /// Leaves Redis no room for this time.
    pub(crate) fn fill(&mut self, time: Duration) {
        if self.all_run() && self.full.is_none() {
            self.note(Kind::Full, Target::Node(0));
            // Less than it uses; not nothing, which would be no limit.
            self.limit("1mb");
            self.full = Some(Instant::now() + time);
        }
    }

    fn limit(&self, bytes: &str) {
        self.place.nodes().iter().for_each(|node| node.config_set("maxmemory", bytes));
    }

    /// Whether the process is paused.
    pub(crate) fn is_paused(&self, target: Target) -> bool {
        let state = match target {
            Target::Node(node) => self.nodes[node],
            Target::Member(place) => self.members[place].state,
        };
        matches!(state, State::Paused(_))
    }

    /// How many slots have moved.
    pub(crate) fn moved(&self) -> usize {
        self.mover.as_ref().map_or(0, |mover| mover.moved)
    }

    /// Does what is due: starts who is down, lets go on who is paused, and looks at how processes ended.
    pub(crate) fn tend(&mut self) {
        let now = Instant::now();
        let place = self.place.clone();
        for node in 0..self.nodes.len() {
            match self.nodes[node] {
                State::Down(until) if now >= until => place.nodes()[node].start_again(),
                State::Paused(until) if now >= until => place.nodes()[node].resume(),
                _ => continue,
            }
            self.nodes[node] = State::Runs;
            self.close_redis(node);
        }
        if self.full.is_some_and(|until| now >= until) && self.all_run() {
            self.limit("0");
            self.full = None;
            self.close_redis(0);
        }
        // Nobody can say where a slot is while a node stands still, nor move it while there is no room.
        let can_move = self.all_run() && self.full.is_none();
        if let (true, Some(mover), Some(cluster)) = (can_move, &mut self.mover, place.cluster()) {
            mover.tend(cluster, !self.is_healing);
        }
        for place in 0..self.members.len() {
            self.tend_member(place, now);
        }
        self.look_at_masters(now);
    }

    /// Notes who has taken over, whoever was killed.
    fn look_at_masters(&mut self, now: Instant) {
        if !self.place.has_replicas() || now < self.masters.1 {
            return;
        }
        self.masters.1 = now + MASTERS_EVERY;
        let place = self.place.clone();
        let masters: Vec<u16> = place.masters().iter().map(|node| node.port()).collect();
        // Before somebody has taken over from who is down, there are fewer.
        if masters.len() < 3 {
            return;
        }
        let known = std::mem::replace(&mut self.masters.0, masters.clone());
        let until_us = now_us();
        let from_us = until_us - TAKES_OVER_WITHIN.as_micros() as u64;
        for port in masters.iter().filter(|port| !known.is_empty() && !known.contains(port)) {
            let node = place.nodes().iter().position(|node| node.port() == *port);
            let process = place.name(node.expect("a master is one of the nodes"));
            let (kind, victim) = (Kind::Takeover, Victim::Redis);
            self.faults.0.push(Fault { kind, victim, process, from_us, until_us });
        }
    }

    fn tend_member(&mut self, place: usize, now: Instant) {
        let member = &mut self.members[place];
        match member.state {
            State::Down(until) => {
                if now >= until {
                    member.start(&self.place.url(), &self.directory, &self.deliveries_max);
                }
                return;
            }
            State::Paused(until) => {
                if now >= until {
                    member.signal(Signal::CONT);
                    member.state = State::Runs;
                    self.close(place, Kind::Pause, now_us());
                }
                return;
            }
            State::Stops(since) if now > since + STOP_MAX => {
                self.wrong.push(format!("{} has not stopped {STOP_MAX:?} after SIGTERM", member.process()));
                member.signal(Signal::KILL);
            }
            State::Stops(_) if member.told_again.is_some_and(|at| now >= at) => {
                member.told_again = None;
                member.signal(Signal::TERM);
                self.note(Kind::Cut, Target::Member(place));
            }
            State::Runs | State::Stops(_) => {}
        }
        let child = self.members[place].child.as_mut().expect("who runs has a process");
        if let Some(status) = child.try_wait().expect("a member is a child of this process") {
            self.close(place, Kind::Cut, now_us());
            self.judge(place, status);
            self.members[place].child = None;
            self.members[place].state = State::Down(now + Duration::from_millis(100));
        }
    }

    /// Whether this is how a process may end that was not killed.
    fn judge(&mut self, place: usize, status: ExitStatus) {
        let member = &self.members[place];
        let stops = matches!(member.state, State::Stops(_));
        match (status.code(), status.signal()) {
            (Some(0), _) if stops => {}
            // Before it has begun, a signal ends a process at once.
            (Some(143), _) | (_, Some(15)) if stops => {}
            // There was no Redis when it started.
            (Some(1), _) if self.faults.redis_failed_since(member.started_us) => self.without_redis += 1,
            (_, Some(9)) if stops => {}
            // Whether a task did that, the ledger says.
            (_, Some(6)) if member.kind == Victim::Workers => self.aborted.push(member.process()),
            _ => self.wrong.push(format!("I12: {} ended with {status}", member.process())),
        }
    }

    /// Ends all pauses and starts everybody; returns when all run.
    pub(crate) fn heal(&mut self) {
        let due = |state: &mut State| match state {
            State::Down(until) | State::Paused(until) => *until = Instant::now(),
            State::Runs | State::Stops(_) => {}
        };
        self.is_healing = true;
        self.nodes.iter_mut().for_each(due);
        self.mover.iter_mut().for_each(Mover::hurry);
        self.full = self.full.map(|_| Instant::now());
        self.members.iter_mut().for_each(|member| due(&mut member.state));
        while !self.all_run()
            || self.full.is_some()
            || self.mover.as_ref().is_some_and(|mover| mover.nodes().is_some())
            || self.members.iter().any(|member| !matches!(member.state, State::Runs))
        {
            self.tend();
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(cluster) = self.place.cluster() {
            cluster.wait();
        }
    }

    fn note(&mut self, kind: Kind, target: Target) {
        let (victim, process) = match target {
            Target::Node(node) => (Victim::Redis, self.place.name(node)),
            Target::Member(place) => (self.members[place].kind, self.members[place].process()),
        };
        self.faults.0.push(Fault { kind, victim, process, from_us: now_us(), until_us: u64::MAX });
    }

    /// The fault of this process is over.
    fn close(&mut self, place: usize, kind: Kind, now: u64) {
        let process = self.members[place].process();
        let open = |fault: &&mut Fault| fault.process == process && fault.kind == kind;
        if let Some(fault) = self.faults.0.iter_mut().rev().find(open) {
            fault.until_us = fault.until_us.min(now);
        }
    }

    fn close_redis(&mut self, node: usize) {
        let (now, name) = (now_us(), self.place.name(node));
        // It may have stood still, and is as full as before.
        let is_over = |fault: &&mut Fault| {
            fault.victim == Victim::Redis
                && fault.process == name
                && !(fault.kind == Kind::Full && self.full.is_some())
        };
        self.faults.0.iter_mut().filter(is_over).for_each(|fault| fault.until_us = fault.until_us.min(now));
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Member {
    /// As the ledger calls it.
    fn process(&self) -> String {
        format!("{}.{}", self.name, self.generation)
    }

    fn start(&mut self, url: &str, directory: &Path, deliveries_max: &str) {
        self.generation += 1;
        let time = |time: Duration| format!("{}ms", time.as_millis());
        let mut command = Command::new(std::env::current_exe().expect("this program has a place"));
        match self.kind {
            Victim::Coordinators => {
                command.args(["coordinator", "--sweep", &time(SWEEP), "--deliveries-max", deliveries_max]);
            }
            _ => drop(command.args(["worker", "--concurrency", "4", "--prefetch", "3"])),
        }
        let log = directory.join("logs").join(format!("{}.log", self.name));
        let log = File::options().create(true).append(true).open(log).expect("the directory is writable");
        command
            .args(["--lease", &time(LEASE), "--grace", &time(GRACE), "--name", &self.process()])
            .env(app::LEDGER, directory.join("ledger").join(self.process()))
            .env("CELERIAC_URL", url)
            .env("CELERIAC_LOG", "info,celeriac_runtime::worker=warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the trial; whoever it started goes down with it.
            .process_group(0);
        self.started_us = now_us();
        self.child = Some(command.spawn().expect("this program can be started"));
        self.state = State::Runs;
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("who runs has a process");
        // It may have ended by itself; that is seen when it is waited for.
        let _ = kill_process(Pid::from_child(child), signal);
    }
}
