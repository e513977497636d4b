//! Servers start as they are told, crash, stop and come back, and leave nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use celeriac_testkit::{Fsync, Server};

/// Long for what takes milliseconds, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(20);

/// Set in the process that a test starts to see it die.
const CHILD: &str = "CELERIAC_TESTKIT_CHILD";

fn connect(url: &str) -> redis::RedisResult<redis::Connection> {
    redis::Client::open(url)?.get_connection()
}

fn set(server: &Server, key: &str) {
    redis::cmd("SET").arg(key).arg(1).exec(&mut server.connection()).unwrap();
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn alive(pid: u32) -> bool {
    // A process that nobody has waited for is a zombie, and dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn what_was_written_survives_a_crash() {
    for fsync in [Fsync::Always, Fsync::EverySecond, Fsync::No] {
        let server = Server::builder().appendfsync(fsync).start();
        set(&server, "a");
        let (pid, url) = (server.pid(), server.url());
        server.crash_and_restart();
        assert_ne!(server.pid(), pid);
        assert_eq!((server.keys("*"), server.url()), (vec!["a".to_owned()], url));
    }
}

#[test]
fn a_server_goes_back_to_what_it_was() {
    let server = Server::start();
    for round in ["1", "2", "3"] {
        let before = server.keys("*");
        let backup = server.backup();
        for part in ["a", "b"] {
            set(&server, &[part, round].concat());
            server.restore(&backup);
            assert_eq!(server.keys("*"), before);
        }
        set(&server, round);
    }
    assert_eq!(server.keys("*"), ["1", "2", "3"]);
}

#[test]
fn without_a_file_a_crash_loses_everything() {
    let server = Server::builder().without_aof().start();
    set(&server, "a");
    server.kill();
    assert!(!server.runs());
    assert!(connect(&server.url()).is_err());
    server.kill();
    server.start_again();
    assert_eq!(server.dbsize(), 0);
}

#[test]
fn a_paused_server_answers_when_it_goes_on() {
    let server = Server::start();
    let mut connection = connect(&server.url()).unwrap();
    server.pause();
    connection.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    redis::cmd("PING").exec(&mut connection).unwrap_err();
    server.resume();
    redis::cmd("PING").exec(&mut connect(&server.url()).unwrap()).unwrap();
    server.pause();
    server.crash_and_restart();
    assert_eq!(server.dbsize(), 0);
}

#[test]
fn a_server_that_is_dropped_leaves_nothing() {
    let server = Server::start();
    let (pid, directory) = (server.pid(), server.directory().to_owned());
    assert!(alive(pid) && directory.exists());
    drop(server);
    assert!(!alive(pid) && !directory.exists());
}

#[test]
fn a_test_process_that_is_killed_leaves_nothing() {
    if let Some(tell) = std::env::var_os(CHILD) {
        return start_servers_and_wait(Path::new(&tell));
    }
    let told = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server::a_test_process_that_is_killed_leaves_nothing"])
        .env(CHILD, told.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(told.path()).unwrap();
    until("the child starts its servers", || read().lines().count() == 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let text = read();
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.chunks(2) {
        let (pid, directory) = (line[0].parse().unwrap(), Path::new(line[1]));
        until("the server ends", || !alive(pid));
        until("the directory is removed", || !directory.exists());
    }
}

/// One server that was started again, and one that is paused: the guards know the right ids, and kill both.
fn start_servers_and_wait(tell: &Path) {
    let (server, shared) = (Server::start(), Server::shared());
    server.crash_and_restart();
    shared.pause();
    let lines =
        [&server, shared].map(|server| format!("{}\n{}\n", server.pid(), server.directory().display()));
    std::fs::write(tell, lines.concat()).unwrap();
    std::thread::sleep(SOON);
}

#[test]
fn a_unix_socket_is_another_way_in() {
    let server = Server::builder().unix_socket().start();
    redis::cmd("SET").arg("a").arg(1).exec(&mut connect(&server.unix_url()).unwrap()).unwrap();
    assert_eq!(server.dbsize(), 1);
}

#[test]
fn passwords_and_users_are_asked_for_and_the_kit_gets_in() {
    let server = Server::builder().requirepass("secret").acl("reader on >word ~* +get").start();
    let stranger = connect(&server.url()).and_then(|mut connection| redis::cmd("PING").exec(&mut connection));
    assert_eq!(stranger.unwrap_err().code(), Some("NOAUTH"));
    assert!(connect(&server.url_as("default", "wrong")).is_err());
    let mut default = connect(&server.url_as("default", "secret")).unwrap();
    redis::cmd("SET").arg("a").arg(1).exec(&mut default).unwrap();
    let mut reader = connect(&server.url_as("reader", "word")).unwrap();
    assert_eq!(redis::cmd("GET").arg("a").query::<u32>(&mut reader).unwrap(), 1);
    let error = redis::cmd("DEL").arg("a").exec(&mut reader).unwrap_err();
    assert_eq!(error.code(), Some("NOPERM"));
    assert_eq!(server.keys("*"), ["a"]);
    server.crash_and_restart();
    assert_eq!(server.keys("*"), ["a"]);
}

#[test]
fn options_reach_the_server() {
    let server = Server::builder()
        .maxmemory_policy("allkeys-lru")
        .option("maxmemory", "50mb")
        .option("databases", 3)
        .start();
    let read = |name: &str| -> (String, String) {
        redis::cmd("CONFIG").arg("GET").arg(name).query(&mut server.connection()).unwrap()
    };
    assert_eq!(read("maxmemory-policy").1, "allkeys-lru");
    assert_eq!(read("maxmemory").1, "52428800");
    assert_eq!(read("databases").1, "3");
    server.config_set("maxmemory", 0);
    assert_eq!(read("maxmemory").1, "0");
}

#[test]
#[should_panic(expected = "no-such-option")]
fn a_server_that_does_not_start_says_why() {
    Server::builder().option("no-such-option", 1).start();
}

#[test]
fn commands_are_counted_those_of_scripts_too() {
    let server = Server::start();
    server.reset_counts();
    let mut connection = connect(&server.url()).unwrap();
    let script = "for i = 1, 10 do redis.call('INCR', KEYS[1]) end";
    redis::cmd("EVAL").arg(script).arg(1).arg("n").exec(&mut connection).unwrap();
    redis::cmd("INCR").arg("n").exec(&mut connection).unwrap();
    let counts = server.command_counts();
    assert_eq!((counts["incr"], counts["eval"]), (11, 1), "{counts:?}");
    assert!(counts.contains_key("config|resetstat"), "{counts:?}");
}

#[test]
fn slow_commands_and_memory_are_seen() {
    let server = Server::builder().option("enable-debug-command", "local").start();
    let before = server.used_memory();
    redis::cmd("SETRANGE").arg("a").arg(10_000_000).arg("x").exec(&mut server.connection()).unwrap();
    assert!(server.used_memory() > before + 10_000_000);
    server.reset_counts();
    assert_eq!(server.slowest(), []);
    redis::cmd("DEBUG").arg("SLEEP").arg(0.02).exec(&mut server.connection()).unwrap();
    let (took, what) = server.slowest().remove(0);
    assert!(took > Duration::from_millis(10) && what.starts_with("DEBUG SLEEP"), "{took:?} {what}");
}

#[test]
fn a_server_waits_for_its_port_when_somebody_took_it_while_it_was_down() {
    let server = Server::start();
    server.kill();
    let taken = std::net::TcpListener::bind(server.address()).unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        drop(taken);
    });
    server.start_again();
    release.join().unwrap();
    assert_eq!(server.dbsize(), 0);
}

#[test]
fn many_servers_start_at_the_same_time() {
    let start = || std::thread::spawn(Server::start);
    let servers: Vec<Server> =
        [(); 6].map(|()| start()).into_iter().map(|server| server.join().unwrap()).collect();
    for server in &servers {
        set(server, "a");
        assert_eq!(server.dbsize(), 1);
    }
}

/// Seconds that the server's clock is ahead of this process' one.
fn ahead(server: &Server) -> i64 {
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query(&mut server.connection()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    seconds - i64::try_from(now.as_secs()).unwrap()
}

#[test]
fn a_clock_is_set_while_the_server_runs_and_after_a_crash() {
    let server = Server::builder().clock().start();
    for seconds in [0, 3600, -3600, 60] {
        server.set_clock(seconds);
        assert!((ahead(&server) - seconds).abs() <= 1, "{seconds}");
    }
    server.crash_and_restart();
    assert!((ahead(&server) - 60).abs() <= 1, "it stays as it was set");
    let start = Instant::now();
    let nothing: Option<(String, String)> =
        redis::cmd("BLPOP").arg("nothing").arg(0.2).query(&mut server.connection()).unwrap();
    assert!(nothing.is_none() && start.elapsed() >= Duration::from_millis(200) && start.elapsed() < SOON);
}
