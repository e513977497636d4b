//! Another server takes over: behind one name, and by the word of sentinels. Clients, coordinators and
//! workers stay, each with a connection of its own, and all that had reached the replica goes on; work is
//! back within ten seconds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_backends::{ErrorKind, Store};
use celeriac_conformance::whole::Crew;
use celeriac_engine::text;
use celeriac_primitives::{Canvas, Json, Options, RunId, Signature};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Worker, WorkerOptions};
use celeriac_testkit::{Failover, Server};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

/// A run that is submitted after the promotion ends within this time.
const BACK_WITHIN: Duration = Duration::from_secs(10);

const PATIENCE: Duration = Duration::from_secs(60);

/// What was lost on its way is taken up again after this time.
const LEASE: Duration = Duration::from_secs(2);

/// A name behind which another server may be with each connection. Connections that are there stay.
struct Name {
    target: Arc<Mutex<SocketAddr>>,
    url: String,
}

impl Name {
    async fn of(server: &Server) -> Self {
        let target = Arc::new(Mutex::new(server.address()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let to = target.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = *to.lock().unwrap();
                tokio::spawn(async move {
                    let mut server = tokio::net::TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { target, url }
    }

    fn means(&self, server: &Server) {
        *self.target.lock().unwrap() = server.address();
    }
}

/// A client, a coordinator, two workers; and one who only reads, and waits for a run of somebody else.
struct Field {
    app: App,
    reader: App,
    _coordinator: Coordinator,
    _workers: Vec<Worker>,
}

async fn backend(url: &str) -> RedisBackend {
    RedisBackend::builder(url).prefix("failover").connect().await.expect("the server answers")
}

impl Field {
    async fn start(url: &str) -> Self {
        let crew = Crew::alone(backend(url).await);
        let options =
            CoordinatorOptions { lease: LEASE, sweep_every: LEASE / 10, ..CoordinatorOptions::default() };
        let coordinator = crew.app_on(backend(url).await).coordinator(options);
        let mut workers = Vec::new();
        for _ in 0..2 {
            let options = WorkerOptions::default().concurrency(8).lease(LEASE);
            workers.push(crew.app_on(backend(url).await).worker(options));
        }
        let reader = crew.app_on(backend(url).await);
        Self { app: crew.app, reader, _coordinator: coordinator, _workers: workers }
    }

    /// Runs that are under way for some seconds, and who waits for each: the one who has submitted it, and
    /// one who has not.
    async fn begin(&self) -> Vec<JoinHandle<Duration>> {
        let mut waiting = Vec::new();
        for seconds in 0..4 {
            for _ in 0..3 {
                let late = Options::new().with_countdown(Duration::from_millis(500 + 1000 * seconds));
                let first = Signature::new("add").unwrap().arg(1).unwrap().arg(2).unwrap().set(&late);
                let canvas = Canvas::chain([
                    first.into(),
                    canvas("add.s(1) | group([add.s(1), add.s(2)]) | tsum.s()"),
                ]);
                let run = self.app.submit(canvas).await.expect("it is accepted");
                for app in [&self.app, &self.reader] {
                    waiting.push(tokio::spawn(value(app.clone(), run.id(), "11")));
                }
            }
        }
        waiting
    }

    /// How long a run takes that is submitted now.
    async fn probe(&self) -> Duration {
        let start = Instant::now();
        let run =
            self.app.submit(canvas("chord([add.s(i, i) for i in range(5)], tsum.s()) | add.s(1)")).await;
        let run = run.expect("it is accepted, if not at once").id();
        value(self.reader.clone(), run, "21").await;
        start.elapsed()
    }

    /// Work is back soon after the promotion, and what was under way goes on.
    async fn goes_on(self, waiting: Vec<JoinHandle<Duration>>) {
        let mut back = Vec::new();
        for _ in 0..3 {
            back.push(self.probe().await);
        }
        println!("work is back after {back:?}");
        assert!(back.iter().all(|took| *took < BACK_WITHIN), "{back:?}");
        for run in waiting {
            run.await.expect("it has its value");
        }
    }
}

fn canvas(words: &str) -> Canvas {
    text::parse(words).expect("it is well written")
}

/// Waits for the value of a run, as somebody who has not submitted it.
async fn value(app: App, id: RunId, expect: &str) -> Duration {
    let start = Instant::now();
    let run = loop {
        // It may be asked where the run is not known yet, or where nobody answers.
        match app.run::<Json>(id).await {
            Ok(Some(run)) => break run,
            found => assert!(start.elapsed() < PATIENCE, "{:?}", found.err()),
        }
        sleep(Duration::from_millis(20)).await;
    };
    let value = run.get_json(Some(PATIENCE)).await.expect("it has a value in the end");
    assert_eq!(value.as_str(), expect);
    start.elapsed()
}

/// What blocks is not done where the proxies and the clients are.
async fn aside<T: Send + 'static>(step: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(step).await.expect("it is done")
}

fn tell(server: &Server, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut server.connection()).expect("it does what it is told");
}

fn follow(server: &Server, primary: &Server) {
    tell(server, &["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
}

/// All that the primary has done has reached the other.
fn catch_up(primary: &Server) {
    let mut connection = primary.connection();
    redis::cmd("PING").exec(&mut connection).unwrap();
    let reached: u64 = redis::cmd("WAIT").arg(1).arg(30_000).query(&mut connection).unwrap();
    assert_eq!(reached, 1);
}

/// Two servers, one following the other, a name of the first, and work under way.
async fn pair() -> (Arc<[Server; 2]>, Name, Field, Vec<JoinHandle<Duration>>) {
    let servers = aside(|| {
        let build = || Server::builder().option("repl-diskless-sync-delay", 0).start();
        let servers = [build(), build()];
        follow(&servers[1], &servers[0]);
        Arc::new(servers)
    })
    .await;
    let name = Name::of(&servers[0]).await;
    let field = Field::start(&name.url).await;
    let waiting = field.begin().await;
    sleep(Duration::from_secs(1)).await;
    let all = servers.clone();
    aside(move || catch_up(&all[0])).await;
    (servers, name, field, waiting)
}

/// Every connection is left as it is, to a server that follows the other one now.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_demotion_behind_a_name_is_followed_by_all() {
    let (servers, name, field, waiting) = pair().await;
    // Nothing is written while they change places.
    tell(&servers[0], &["CLIENT", "PAUSE", "30000", "WRITE"]);
    catch_up(&servers[0]);
    tell(&servers[1], &["REPLICAOF", "NO", "ONE"]);
    name.means(&servers[1]);
    follow(&servers[0], &servers[1]);
    tell(&servers[0], &["CLIENT", "UNPAUSE"]);
    field.goes_on(waiting).await;
    until_nobody_listens(&servers[0]).await;
}

/// The channels that somebody listens to; sentinels have others.
fn listeners(server: &Server) -> Vec<String> {
    redis::cmd("PUBSUB").arg("CHANNELS").arg("failover:*").query(&mut server.connection()).unwrap()
}

/// Who listens at a server that another one has replaced would hear nothing once that follows nobody any
/// more.
async fn until_nobody_listens(server: &Server) {
    let start = Instant::now();
    while !listeners(server).is_empty() {
        assert!(start.elapsed() < BACK_WITHIN, "{:?}", listeners(server));
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_behind_a_name_that_is_killed_is_replaced_and_comes_back_as_a_replica() {
    let (servers, name, field, waiting) = pair().await;
    servers[0].kill();
    tell(&servers[1], &["REPLICAOF", "NO", "ONE"]);
    name.means(&servers[1]);
    let first = field.probe().await;
    assert!(first < BACK_WITHIN, "{first:?}");
    let all = servers.clone();
    aside(move || {
        all[0].start_again();
        follow(&all[0], &all[1]);
    })
    .await;
    field.goes_on(waiting).await;
}

/// Connections to it stay and say nothing; when it goes on, it follows the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_behind_a_name_that_is_paused_is_replaced_and_may_go_on() {
    let (servers, name, field, waiting) = pair().await;
    servers[0].pause();
    tell(&servers[1], &["REPLICAOF", "NO", "ONE"]);
    name.means(&servers[1]);
    let first = field.probe().await;
    assert!(first < BACK_WITHIN, "{first:?}");
    servers[0].resume();
    follow(&servers[0], &servers[1]);
    field.goes_on(waiting).await;
    until_nobody_listens(&servers[0]).await;
}

/// Nobody writes: who only reads sees what that server has heard, and nobody tells it that this is not all.
#[tokio::test(flavor = "multi_thread")]
async fn who_only_waits_leaves_a_replica_that_follows_nobody() {
    let (before, after) = aside(|| (Server::start(), Server::start())).await;
    let name = Name::of(&before).await;
    let crew = Crew::alone(backend(&before.url()).await);
    let id = crew.app.submit(canvas("add.s(1, 1)")).await.unwrap().id();
    let reader = crew.app_on(backend(&name.url).await);
    drop(crew);
    let waits = tokio::spawn(value(reader, id, "2"));
    while listeners(&before).is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    let (before, after) = aside(move || {
        follow(&after, &before);
        catch_up(&before);
        (before, after)
    })
    .await;
    tell(&after, &["REPLICAOF", "NO", "ONE"]);
    // A replica of a server that is not there.
    tell(&before, &["REPLICAOF", "127.0.0.1", "1"]);
    name.means(&after);
    until_nobody_listens(&before).await;
    let listens_after = async {
        while listeners(&after).is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BACK_WITHIN, listens_after).await.expect("it listens where the name is now");
    waits.abort();
}

/// Three sentinels, three servers, and work under way.
async fn watched() -> (Arc<Failover>, Field, Vec<JoinHandle<Duration>>) {
    let failover = aside(|| Arc::new(Failover::start())).await;
    let field = Field::start(&failover.url()).await;
    let waiting = field.begin().await;
    sleep(Duration::from_secs(1)).await;
    let all = failover.clone();
    aside(move || all.until_replicated()).await;
    (failover, field, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_of_sentinels_is_followed_by_all() {
    let (failover, field, waiting) = watched().await;
    let all = failover.clone();
    let before = aside(move || {
        let before = all.primary();
        all.promote();
        // What it accepts until it has heard of the other is lost.
        all.until_demoted(before);
        before.port()
    })
    .await;
    let before = failover.servers().iter().find(|server| server.port() == before).unwrap();
    field.goes_on(waiting).await;
    until_nobody_listens(before).await;
}

/// It starts again as a primary, which it is for nobody; and one sentinel is away all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_is_replaced_by_two_of_three_sentinels_and_comes_back() {
    let (failover, field, waiting) = watched().await;
    let all = failover.clone();
    aside(move || {
        let before = all.primary();
        all.sentinels()[0].kill();
        before.kill();
        all.until_promoted(before);
    })
    .await;
    let first = field.probe().await;
    assert!(first < BACK_WITHIN, "{first:?}");
    let all = failover.clone();
    aside(move || {
        all.servers().iter().filter(|server| !server.runs()).for_each(Server::start_again);
        all.sentinels()[0].start_again();
    })
    .await;
    field.goes_on(waiting).await;
}

/// Connections to it are there again when it goes on, and it believes that it is the primary until it is
/// told.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_paused_is_replaced_and_wakes_up_as_nobody_s_primary() {
    let (failover, field, waiting) = watched().await;
    let all = failover.clone();
    let before = aside(move || {
        let before = all.primary();
        before.pause();
        all.until_promoted(before);
        before.port()
    })
    .await;
    let first = field.probe().await;
    assert!(first < BACK_WITHIN, "{first:?}");
    let before = failover.servers().iter().find(|server| server.port() == before).unwrap();
    before.resume();
    field.goes_on(waiting).await;
    until_nobody_listens(before).await;
}

/// It was cut off: it refuses nobody, and nothing of it says that another one is the primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_does_not_know_of_the_other_is_left_when_the_sentinels_name_it() {
    let (one, two) = aside(|| (Server::start(), Server::start())).await;
    let sentinel = {
        let port = one.port();
        aside(move || fake(port)).await
    };
    let url = format!("redis-sentinel://{}/celeriac", sentinel.address);
    let backend = backend(&url).await;
    assert!(backend.list(None, 1).await.unwrap().is_empty());
    *sentinel.names.lock().unwrap() = two.port();
    let start = Instant::now();
    let clients = |server: &Server| -> String {
        redis::cmd("CLIENT").arg("LIST").query(&mut server.connection()).unwrap()
    };
    // The one who asks is there in any case.
    while clients(&one).lines().count() > 1 || clients(&two).lines().count() < 3 {
        assert!(start.elapsed() < BACK_WITHIN, "{}", clients(&one));
        sleep(Duration::from_millis(50)).await;
    }
    assert!(backend.list(None, 1).await.unwrap().is_empty());
}

/// Says what it is told to say, as a sentinel that is alone.
struct Fake {
    address: SocketAddr,
    names: Arc<Mutex<u16>>,
}

fn fake(port: u16) -> Fake {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let names = Arc::new(Mutex::new(port));
    let says = names.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, says) = (stream.unwrap(), says.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    let asked = String::from_utf8_lossy(&bytes[..read]).to_uppercase();
                    let port = says.lock().unwrap().to_string();
                    for word in asked.split("\r\n") {
                        let reply = match word {
                            "CLIENT" => "+OK\r\n".to_owned(),
                            "SENTINEL" => format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len()),
                            _ => continue,
                        };
                        if stream.write_all(reply.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    Fake { address, names }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_servers_may_both_speak_tls() {
    let (server, sentinel) = aside(|| {
        let server = Server::builder().tls().start();
        let port: u16 = server.tls_url().rsplit(':').next().unwrap().parse().unwrap();
        let sentinel = Server::builder().tls().sentinel_of("celeriac", port, 2).start();
        (server, sentinel)
    })
    .await;
    let authority = |server: &Server| std::fs::read(server.certificates().unwrap().ca()).unwrap();
    let authorities = [authority(&server), authority(&sentinel)].concat();
    let url = sentinel.tls_url().replace("rediss:", "rediss-sentinel:") + "/celeriac";
    let backend = RedisBackend::builder(&url).tls_ca(authorities).connect().await.expect("it answers");
    assert!(backend.list(None, 1).await.unwrap().is_empty());
    // Whom the servers' authority does not vouch for is not asked.
    let told = RedisBackend::builder(&url).tls_ca(authority(&server)).connect().await.unwrap_err();
    assert!(told.to_string().contains("certificate"), "{told}");
}

/// Each is told in its own words, and soon.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_names_sentinels_wrongly_is_told_what_to_write() {
    let (server, failover) = aside(|| {
        let guarded = |builder: celeriac_testkit::ServerBuilder| {
            builder.requirepass("s3cret").option("masterauth", "s3cret")
        };
        let sentinels = Server::builder().requirepass("w4tch").option("sentinel", "sentinel-pass w4tch");
        let failover =
            Failover::start_with(guarded(Server::builder()), sentinels, &[("auth-pass", "s3cret")]);
        (Server::start(), failover)
    })
    .await;
    let good = format!("{}/3?sentinel_password=w4tch", failover.url_as(":s3cret@"));
    backend(&good).await.list(None, 1).await.expect("it answers");
    let sentinel = failover.sentinels()[0].address();
    let (denied, away) = (ErrorKind::Denied, ErrorKind::Unavailable);
    let cases = [
        (good.replace("/celeriac", "/s3cond"), denied, "the sentinels know no primary \"s3cond\""),
        (good.replace("/celeriac/3", ""), denied, "/NAME[/DATABASE]"),
        (good.replace("/celeriac/3", "/celeriac/three"), denied, "/NAME[/DATABASE]"),
        (good.replace("/3", "/99"), denied, "no database of this number"),
        (failover.url_as(":s3cret@"), denied, "?sentinel_password="),
        (good.replace("w4tch", "wr0ng"), denied, "?sentinel_password="),
        (good.replace("s3cret", "wr0ng"), denied, "check user and password"),
        (format!("redis-sentinel://{}/celeriac", server.address()), denied, "write redis://"),
        ("redis-sentinel://127.0.0.1:1,127.0.0.1:2/celeriac".to_owned(), away, "no sentinel says"),
        (format!("redis://:w4tch@{sentinel}"), denied, "this is a sentinel: write redis-sentinel://"),
        (format!("redis://:w4tch@{sentinel}/1"), denied, "this is a sentinel: write redis-sentinel://"),
    ];
    for (url, kind, words) in cases {
        let start = Instant::now();
        let connecting = RedisBackend::connect(&url);
        let told =
            timeout(PATIENCE, connecting).await.expect("it ends").err().unwrap_or_else(|| panic!("{url}"));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(4), "{url}: {took:?}");
        assert_eq!(told.kind, kind, "{url}: {told}");
        assert!(told.to_string().contains(words), "{url}: {told}");
        for secret in ["s3cret", "w4tch", "wr0ng"] {
            assert!(!told.to_string().contains(secret), "{url}: {told}");
        }
    }
}
