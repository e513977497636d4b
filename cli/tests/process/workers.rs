//! `worker`, `coordinator`, `up`, `submit`, `result` and `health` as processes that share a Redis.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use celeriac_testkit::Server;

use crate::{command, finish, signal};

/// Every Redis asks for it, and nobody may print it.
const PASSWORD: &str = "s3cret";

pub(crate) const CASES: &[(&str, fn())] = &[
    ("processes_share_a_redis", processes_share_a_redis),
    ("sigterm_lets_a_leaf_finish", sigterm_lets_a_leaf_finish),
    (
        "what_is_not_finished_goes_to_another_worker_at_once",
        what_is_not_finished_goes_to_another_worker_at_once,
    ),
    ("a_second_signal_ends_at_once", a_second_signal_ends_at_once),
    ("a_second_signal_lets_no_leaf_run_twice_that_runs_at_most_once", a_second_signal_lets_no_leaf_run_twice),
    ("health_is_red_while_redis_is_away", health_is_red_while_redis_is_away),
    ("health_says_that_redis_is_full", health_says_that_redis_is_full),
    ("users_with_the_rules_of_their_roles_do_all_they_have_to", users_with_the_rules_of_their_roles),
    ("a_permission_that_is_taken_away_is_said_and_waited_for", a_permission_that_is_taken_away),
    ("a_process_without_its_backend_does_not_start", a_process_without_its_backend_does_not_start),
];

/// Longer than any lease: what comes back sooner was given back.
const LONG: &str = "10h";

fn start_redis() -> Server {
    Server::builder().requirepass(PASSWORD).start()
}

fn url(redis: &Server) -> String {
    redis.url_as("default", PASSWORD)
}

/// A process of the app. It is killed when this is dropped.
struct Process(Option<Child>);

impl Process {
    /// Starts a command on this Redis.
    fn start(redis: &Server, args: &[&str]) -> Self {
        Self(Some(command(args).env("CELERIAC_URL", url(redis)).spawn().unwrap()))
    }

    fn signal(&self, name: &str) {
        signal(self.0.as_ref().expect("it was not waited for"), name);
    }

    /// Its exit code and what it printed. Nobody ever prints the password.
    #[track_caller]
    fn finish(mut self) -> (i32, String, String) {
        let (exit, stdout, stderr) = finish(self.0.take().expect("it was not waited for"));
        assert!(
            !stdout.contains(PASSWORD) && !stderr.contains(PASSWORD),
            "the password:\n{stdout}\n{stderr}"
        );
        (exit.unwrap_or_else(|| panic!("it was killed; it said {stderr}")), stdout, stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a command prints that succeeds.
#[track_caller]
fn ask(redis: &Server, args: &[&str]) -> String {
    let timeout: &[&str] = if args[0] == "result" { &["--timeout", "60"] } else { &[] };
    let (exit, stdout, stderr) = Process::start(redis, &[args, timeout].concat()).finish();
    assert_eq!((exit, stderr.as_str()), (0, ""), "{args:?}");
    stdout.trim_end().to_owned()
}

/// Waits for something, but not for ever.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A path where nothing is.
fn fresh(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path.to_str().unwrap().to_owned()
}

fn exists(path: &str) -> bool {
    std::fs::exists(path).unwrap()
}

fn processes_share_a_redis() {
    let redis = start_redis();
    // Before anybody is there to do it.
    let id = ask(&redis, &["submit", "add.s(4, 4) | mul.s(8)"]);
    let coordinator = Process::start(&redis, &["coordinator", "--log", "trace"]);
    let worker = Process::start(&redis, &["worker", "-n", "mailer", "--log-format", "json"]);
    assert_eq!(ask(&redis, &["result", &id]), "64");
    assert_eq!(ask(&redis, &["run", "group(add.s(i, i) for i in range(3))"]), "[0,2,4]");
    assert_eq!(ask(&redis, &["ls"]).lines().count(), 3);
    assert!(ask(&redis, &["show", &id]).starts_with(&format!("run {id}  SUCCESS  2/2\nchain\n")));
    ask(&redis, &["forget", &id]);
    let (exit, ..) = Process::start(&redis, &["result", &id]).finish();
    assert_eq!(exit, 5);
    assert_eq!(ask(&redis, &["ls", "--prefix", "another"]).lines().count(), 1);

    worker.signal("-TERM");
    coordinator.signal("-INT");
    let (exit, stdout, log) = worker.finish();
    assert_eq!((exit, stdout.as_str()), (0, ""));
    let started = log.lines().find(|line| line.contains("\"started\"")).expect("the start is logged");
    let started: serde_json::Value = serde_json::from_str(started).unwrap();
    assert_eq!(started["url"], redis.url());
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    assert!(started["name"].as_str().unwrap().starts_with("mailer-"), "{started}");
    assert!(log.contains("\"queues\":\"celery\"") && log.contains("\"stopped\""), "{log}");
    assert_eq!(coordinator.finish().0, 0);
}

fn sigterm_lets_a_leaf_finish() {
    let redis = start_redis();
    let up = Process::start(&redis, &["up", "--lease", LONG]);
    let id = ask(&redis, &["submit", "sleep.s(2) | add.si(1, 1)"]);
    until("the leaf runs", || ask(&redis, &["show", &id]).contains('▶'));
    std::thread::sleep(Duration::from_millis(500));
    up.signal("-TERM");
    let (exit, _, log) = up.finish();
    assert_eq!(exit, 0, "{log}");
    // The coordinator of up was the last to go: it has heard of the leaf, and the next one is for others.
    let up = Process::start(&redis, &["up"]);
    assert_eq!(ask(&redis, &["result", &id]), "2");
    up.signal("-TERM");
    assert_eq!(up.finish().0, 0);
}

/// Lets a worker get a leaf that lingers, stops it like this, and lets another worker do the leaf.
fn stop_in_the_middle(name: &str, args: &[&str], stop: impl FnOnce(&Process), exit_code: i32) {
    let redis = start_redis();
    let path = fresh(name);
    let coordinator = Process::start(&redis, &["coordinator"]);
    let first = Process::start(&redis, &[&["worker", "--lease", LONG], args].concat());
    let id = ask(&redis, &["submit", &format!("linger.s('{path}')")]);
    until("the leaf runs", || exists(&path));
    let started = Instant::now();
    stop(&first);
    let (exit, _, log) = first.finish();
    assert_eq!(exit, exit_code, "{log}");
    assert!(started.elapsed() < Duration::from_secs(20), "the leaf lingers for ten minutes");
    let _second = Process::start(&redis, &["worker"]);
    assert_eq!(ask(&redis, &["result", &id]), "\"another time\"");
    drop(coordinator);
}

fn what_is_not_finished_goes_to_another_worker_at_once() {
    let stop = |worker: &Process| worker.signal("-TERM");
    stop_in_the_middle("grace", &["--grace", "100ms"], stop, 0);
}

fn a_second_signal_ends_at_once() {
    for (name, exit) in [("-TERM", 143), ("-INT", 130)] {
        let health = fresh("stopping");
        let stop = |worker: &Process| {
            worker.signal("-TERM");
            // Two signals at once would be one.
            until("the first signal is heard", || {
                std::fs::read_to_string(&health).unwrap().contains("stopping")
            });
            worker.signal(name);
        };
        stop_in_the_middle("second", &["--grace", LONG, "--health-file", &health], stop, exit);
    }
}

fn a_second_signal_lets_no_leaf_run_twice() {
    let redis = start_redis();
    let (path, health) = (fresh("once"), fresh("stopping-once"));
    let _coordinator = Process::start(&redis, &["coordinator"]);
    let first =
        Process::start(&redis, &["worker", "--lease", LONG, "--grace", LONG, "--health-file", &health]);
    let id = ask(&redis, &["submit", &format!("linger.s('{path}').set(acks_late=False)")]);
    until("the leaf runs", || exists(&path));
    first.signal("-TERM");
    until("the first signal is heard", || {
        std::fs::read_to_string(&health).is_ok_and(|text| text.contains("stopping"))
    });
    first.signal("-TERM");
    let (exit, _, log) = first.finish();
    assert_eq!(exit, 143, "{log}");
    let _second = Process::start(&redis, &["worker"]);
    let (exit, stdout, stderr) = Process::start(&redis, &["result", &id, "--timeout", "60"]).finish();
    assert_eq!((exit, stdout.as_str()), (4, ""), "{stderr}");
    assert!(stderr.contains("WorkerLostError"), "{stderr}");
}

fn health_is_red_while_redis_is_away() {
    let redis = start_redis();
    let path = fresh("health");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let up = Process::start(&redis, &["up", "--health", &port, "--health-file", &path, "--sweep", "500ms"]);
    let url = url(&redis);
    let health = |args: &[&str]| {
        let child = command(&[&["health"], args].concat()).env("CELERIAC_URL", &url).spawn().unwrap();
        let (exit, stdout, _) = finish(child);
        (exit.unwrap(), stdout)
    };
    let green = || health(&["--health", &port, "--health-file", &path]) == (0, "green\n".to_owned());
    until("it is green", green);

    redis.kill();
    until("it is red over HTTP", || health(&["--health", &port]).0 == 1);
    until("it is red in the file", || health(&["--health-file", &path]).0 == 1);
    let (_, said) = health(&["--health", &port]);
    assert!(said.contains("the backend cannot be reached"), "{said}");

    redis.start_again();
    until("it is green again", green);
    assert_eq!(ask(&redis, &["run", "add.s(2, 2)"]), "4");

    up.signal("-TERM");
    let (exit, _, log) = up.finish();
    assert_eq!(exit, 0, "{log}");
    assert!(log.contains("red") && log.contains("green"), "{log}");
    let (exit, said) = health(&["--health", &port, "--health-file", &path]);
    assert!(exit == 1 && said.starts_with("red: nobody answers"), "{said}");
}

/// Who works goes on, so it is green; whoever asks is told why nothing new comes.
fn health_says_that_redis_is_full() {
    let redis = start_redis();
    let url = url(&redis);
    for part in ["worker", "coordinator", "up"] {
        let path = fresh(&format!("full-{part}"));
        let process = Process::start(&redis, &[part, "--health-file", &path]);
        let health = || {
            let child = command(&["health", "--health-file", &path]).env("CELERIAC_URL", &url).spawn();
            let (exit, stdout, _) = finish(child.unwrap());
            (exit.unwrap(), stdout)
        };
        until("it is green", || health() == (0, "green\n".to_owned()));
        redis.config_set("maxmemory", redis.used_memory() + 1000);
        until("it says so", || health().1.contains("new runs are refused, the store is full: Redis uses "));
        let (exit, said) = health();
        assert!(exit == 0 && said.starts_with("green: ") && said.contains("MB of its maxmemory"), "{said}");
        let (exit, _, refused) = Process::start(&redis, &["submit", "add.s(1, 1)"]).finish();
        assert!(exit == 1 && refused.contains("the store is full"), "{refused}");
        redis.config_set("maxmemory", 0);
        until("it is as before", || health() == (0, "green\n".to_owned()));
        process.signal("-TERM");
        let (exit, _, log) = process.finish();
        assert!(exit == 0 && log.contains("no room for new runs"), "{log}");
    }
}

/// What `acl` prints, word by word.
fn rules(args: &[&str]) -> Vec<String> {
    let (exit, stdout, stderr) = finish(command(&[&["acl"], args].concat()).spawn().unwrap());
    assert_eq!((exit, stderr.as_str()), (Some(0), ""), "{args:?}");
    stdout.split_whitespace().map(str::to_owned).collect()
}

/// Users of all roles, as the command prints them: one in the server's file, the others as it runs.
fn start_redis_with_users() -> Server {
    let line = rules(&["worker", "--user", "worker", "-o", "file"]);
    let (user, rest) = (line[1].clone(), line[2..].join(" "));
    let redis = Server::builder().requirepass(PASSWORD).acl(&format!("{user} >{PASSWORD} {rest}")).start();
    for role in ["coordinator", "client", "read-only"] {
        let words = rules(&[role]);
        redis.tell(&words);
        redis.tell(&["ACL", "SETUSER", &format!("celeriac-{role}"), &format!(">{PASSWORD}")]);
    }
    redis
}

/// Starts a command as a user.
fn start_as(redis: &Server, user: &str, args: &[&str]) -> Process {
    let url = redis.url_as(user, PASSWORD);
    Process(Some(command(args).env("CELERIAC_URL", url).spawn().unwrap()))
}

fn users_with_the_rules_of_their_roles() {
    let redis = start_redis_with_users();
    let _worker = start_as(&redis, "worker", &["worker"]);
    let _coordinator = start_as(&redis, "celeriac-coordinator", &["coordinator"]);
    let client = |args: &[&str]| start_as(&redis, "celeriac-client", args).finish();
    let reader = |args: &[&str]| start_as(&redis, "celeriac-read-only", args).finish();
    let (exit, id, _) =
        client(&["submit", "chord(group(add.s(i, i) for i in range(3)), xsum.s()) | add.s(1)"]);
    assert_eq!(exit, 0);
    let id = id.trim();
    assert_eq!(client(&["wait", id, "--timeout", "60"]), (0, String::new(), String::new()));
    for args in [&["result", id][..], &["wait", id], &["ls"], &["show", id], &["graph", id], &["dead"]] {
        let (exit, _, stderr) = reader(args);
        assert_eq!((exit, stderr.as_str()), (0, ""), "{args:?}");
    }
    assert_eq!(reader(&["result", id]).1, "7\n");
    assert_eq!(redis.tell(&["ACL", "LOG"]), "array([])");
    for args in [&["submit", "add.s(1, 1)"][..], &["forget", id]] {
        let (exit, _, stderr) = reader(args);
        let is_said = stderr.contains("this Redis user may not run '") && stderr.contains("`celeriac acl`");
        assert!(exit == 1 && is_said, "{args:?}: {stderr}");
    }
    assert_eq!(client(&["forget", id]).0, 0);
}

fn a_permission_that_is_taken_away() {
    let redis = start_redis_with_users();
    let path = fresh("permissions");
    let _coordinator = start_as(&redis, "celeriac-coordinator", &["coordinator"]);
    let worker = start_as(&redis, "worker", &["worker", "--health-file", &path, "--lease", "3s"]);
    let health = || finish(command(&["health", "--health-file", &path]).spawn().unwrap()).1;
    let permit = |rule: &str| redis.tell(&["ACL", "SETUSER", "worker", rule]);
    until("it is green", || health() == "green\n");
    for (loss, back, words) in [
        ("-xadd", "+xadd", "this Redis user may not run 'xadd'"),
        ("-xreadgroup", "+xreadgroup", "this Redis user may not run 'xreadgroup'"),
        ("resetkeys", "~celeriac:{*", "this Redis user may not use one of the keys"),
    ] {
        let id = ask(&redis, &["submit", "sleep.s(1) | add.si(2, 2)"]);
        permit(loss);
        until(words, || Some(health()).is_some_and(|said| said.starts_with("red: ") && said.contains(words)));
        permit(back);
        assert_eq!(ask(&redis, &["result", &id]), "4");
        until("it is green again", || health() == "green\n");
    }
    worker.signal("-TERM");
    assert_eq!(worker.finish().0, 0);
}

fn a_process_without_its_backend_does_not_start() {
    let redis = start_redis();
    let wrong = url(&redis).replace(PASSWORD, "wr0ng");
    let child = command(&["worker", "--url", &wrong, "--log", "trace"]).spawn().unwrap();
    let (exit, _, said) = finish(child);
    assert_eq!(exit, Some(1));
    assert!(said.contains("the backend refuses") && !said.contains("wr0ng"), "{said}");
    redis.kill();
    for args in [&["up"][..], &["submit", "add.s(1, 1)"], &["ls"]] {
        let (exit, _, said) = Process::start(&redis, args).finish();
        assert!(exit == 1 && said.contains("the backend cannot be reached"), "{said}");
    }
}
