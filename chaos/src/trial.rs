//! One trial: start everything, kill, let it settle, check.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use celeriac::redis::RedisBackend;
use celeriac_testkit::Fsync;

use crate::checks::{self, Evidence};
use crate::client::Client;
use crate::crew::Crew;
use crate::faults::{Fault, Kind};
use crate::killer;
use crate::ledger::{DEATHS, Ledger};
use crate::options::{Options, Victim, word};
use crate::place::Place;
use crate::report::Report;
use crate::sampler;

/// Returns whether everything was right.
pub(crate) fn run(options: &Options, fsync: Fsync) -> bool {
    let directory = tempfile::Builder::new().prefix("celeriac-chaos-").tempdir();
    let directory = directory.expect("the temporary directory is writable");
    for part in ["ledger", "logs", DEATHS] {
        std::fs::create_dir(directory.path().join(part)).expect("the temporary directory is writable");
    }
    let place = Arc::new(Place::start(options, fsync));
    let report = observe(options, fsync, &place, directory.path());
    eprintln!("{report}");
    if report.is_green() && !options.keep {
        return true;
    }
    for wrong in report.wrong.iter().take(40) {
        eprintln!("  {wrong}");
    }
    if report.wrong.len() > 40 {
        eprintln!("  and {} more", report.wrong.len() - 40);
    }
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args(place.nodes().iter().map(|node| node.directory()))
        .arg(directory.path())
        .status();
    let _ = std::fs::write(directory.path().join("wrong"), report.wrong.join("\n"));
    eprintln!("  replay: {}", options.replay(fsync));
    eprintln!(
        "  kept: {} (Redis: {})",
        directory.keep().display(),
        copied.is_ok_and(|copied| copied.success())
    );
    report.is_green()
}

fn observe(options: &Options, fsync: Fsync, place: &Arc<Place>, directory: &Path) -> Report {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("the async runtime starts");
    let backend = runtime.block_on(RedisBackend::connect(place.url())).expect("Redis was just started");
    let mut crew = Crew::start(place.clone(), directory, options);
    let client = Arc::new(Client::default());
    let work = {
        let (client, backend) = (client.clone(), backend.clone());
        let (seed, at_once, with) = (options.seed(), options.canvases, options.with());
        runtime.spawn(async move { client.work(backend, seed, at_once, &with).await })
    };
    let end = Arc::new(AtomicBool::new(false));
    let looking = {
        let (client, end, place) = (client.clone(), end.clone(), place.clone());
        std::thread::spawn(move || sampler::look(&place, &client, &end))
    };

    let enough = killer::run(&mut crew, options);
    client.stop.store(true, Ordering::Relaxed);
    crew.heal();
    let healed = Instant::now();
    let (mut open, mut since) = (usize::MAX, Instant::now());
    let (settle, settle_max) = (options.settle(), options.settle_max());
    while !work.is_finished() && since.elapsed() < settle && healed.elapsed() < settle_max {
        crew.tend();
        if client.open() < open {
            (open, since) = (client.open(), Instant::now());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let settled_in = healed.elapsed();
    client.give_up.store(true, Ordering::Relaxed);
    let worked = runtime.block_on(work);
    end.store(true, Ordering::Relaxed);
    let mut seen = looking.join().expect("the sampler does not panic");

    let mut report = Report { settled_in, ..Report::default() };
    report.wrong.append(&mut crew.wrong);
    report.wrong.extend(client.wrong());
    if let Err(error) = worked {
        report.wrong.push(format!("the client: {error}"));
    }
    if !enough {
        report.wrong.push(format!("the time was over before {} were killed", options.kills));
    }
    let on = match (options.cluster, options.replicas) {
        (false, _) => "",
        (true, false) => " on a Cluster",
        (true, true) => " on a Cluster with replicas",
    };
    report.head = format!("chaos seed {}{on} appendfsync {}", options.seed(), word(fsync));

    // The processes still run: what they owe, they do.
    checks::until_idle(place, &mut crew, &mut report);
    let ledger = Ledger::read(&directory.join("ledger")).expect("the ledger can be read");
    let stalls = ledger.stalls.iter().map(|(process, from_us, until_us)| Fault {
        kind: Kind::Stall,
        victim: Victim::Workers,
        process: ledger.processes[*process].clone(),
        from_us: *from_us,
        until_us: *until_us,
    });
    let aborts = ledger.deaths.iter().map(|(process, at_us)| Fault {
        kind: Kind::Abort,
        victim: Victim::Workers,
        process: ledger.processes[*process].clone(),
        from_us: *at_us,
        until_us: *at_us,
    });
    crew.faults.0.extend(stalls.chain(aborts).chain(seen.stalls.drain(..)));
    let is_written = |process: &String| crew.faults.aborted(process);
    report.wrong.extend(
        crew.aborted
            .iter()
            .filter(|process| !is_written(process))
            .map(|process| format!("I12: {process} was aborted, and by none of the tasks that do so")),
    );
    let refused = client.refused();
    report.refused = refused.len();
    let wrongly = refused.iter().filter(|at_us| !crew.faults.was_full(**at_us)).count();
    if wrongly > 0 {
        report.wrong.push(format!("{wrongly} submissions were refused, and Redis was not full"));
    }
    report.faults = faults(&crew);
    let log: Vec<String> = crew.faults.0.iter().map(ToString::to_string).collect();
    std::fs::write(directory.join("faults"), log.join("\n")).expect("the directory is writable");
    let evidence = Evidence {
        seed: options.seed(),
        with: options.with(),
        deliveries_max: options.deliveries_max as usize,
        may_lose: fsync != Fsync::Always || place.has_replicas(),
        redis_kills: crew.faults.count(Kind::Kill, Some(Victim::Redis)),
        at_once: options.canvases,
        runs: client.runs(),
        forgotten: client.forgotten(),
        ledger,
        excuses: crew.faults.excuses(),
        backend,
        place,
    };
    runtime.block_on(checks::all(evidence, &mut seen, &mut report));
    drop(crew);
    checks::i12_no_process_panics(&directory.join("logs"), &mut report);
    report.took = began.elapsed();
    report
}

fn faults(crew: &Crew) -> String {
    let count = |kind, victim| crew.faults.count(kind, victim);
    format!(
        "{} kills ({} coordinators, {} workers, {} Redis), {} aborts, {} pauses ({} Redis), {} stops ({} at once), \
         {} times full, {} replicas took over, {} slots moved, {} starts without Redis",
        count(Kind::Kill, None),
        count(Kind::Kill, Some(Victim::Coordinators)),
        count(Kind::Kill, Some(Victim::Workers)),
        count(Kind::Kill, Some(Victim::Redis)),
        count(Kind::Abort, None),
        count(Kind::Pause, None),
        count(Kind::Pause, Some(Victim::Redis)),
        count(Kind::Stop, None),
        count(Kind::Cut, None),
        count(Kind::Full, None),
        count(Kind::Takeover, None),
        crew.moved(),
        crew.without_redis,
    )
}
