//! What Redis may answer instead of doing it, and what becomes of the work: it waits and goes on. Real
//! servers where they can be brought to say it; else the network says it.
//!
//! What only an operator can mend (a password, a permission, a key of a wrong type) is said clearly, and
//! nobody asks again in haste.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_backends::{BackendError, ErrorKind, NewRun, Store};
use celeriac_conformance::whole::Crew;
use celeriac_engine::{Plan, text};
use celeriac_primitives::{Incarnation, RunId};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Worker, WorkerOptions};
use celeriac_testkit::{Cluster, Proxy, Server};
use tokio::time::{Instant, sleep};

use crate::backend::Backends;
use crate::leases;

const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough to see whether somebody asks in haste.
const WHILE: Duration = Duration::from_secs(2);

/// A coordinator and a worker behind a proxy, and a client that goes straight to the server.
struct Field {
    server: Server,
    proxy: Proxy,
    client: App,
    _parts: (Coordinator, Worker),
}

impl Field {
    async fn start() -> Self {
        Self::start_as("").await
    }

    /// With this user and password, as in `user:password@`, for coordinator and worker.
    async fn start_as(user: &str) -> Self {
        let server = Server::builder().acl("limited on >secret ~* &* +@all").start();
        let proxy = Proxy::start(server.address()).await;
        let backend = async |url: String| {
            RedisBackend::builder(url).prefix("replies").connect().await.expect("the server answers")
        };
        let crew = Crew::alone(backend(server.url()).await);
        let app = crew.app_on(backend(proxy.url().replace("//", &format!("//{user}"))).await);
        let options =
            CoordinatorOptions { sweep_every: Duration::from_millis(500), ..CoordinatorOptions::default() };
        let parts = (app.coordinator(options), app.worker(WorkerOptions::default()));
        Self { server, proxy, client: crew.app, _parts: parts }
    }

    async fn runs(&self) {
        runs(&self.client).await;
    }

    /// How many commands coordinator and worker send in a second.
    async fn commands_per_second(&self) -> f64 {
        self.proxy.count(|_| true);
        let (before, start) = (self.proxy.counted(), Instant::now());
        sleep(WHILE).await;
        (self.proxy.counted() - before) as f64 / start.elapsed().as_secs_f64()
    }

    fn tell(&self, command: &[&str]) {
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]).exec(&mut self.server.connection()).expect("the server does it");
    }
}

async fn runs(app: &App) {
    let canvas = text::parse("chord([add.s(i, i) for i in range(5)], tsum.s()) | add.s(1)").unwrap();
    let run = app.submit(canvas).await.expect("it is accepted");
    assert_eq!(run.get_json(Some(PATIENCE)).await.expect("it has a value").as_str(), "21");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reply_that_passes_is_outlasted() {
    let field = Field::start().await;
    for reply in [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "UNBLOCKED client unblocked via CLIENT UNBLOCK",
        "READONLY You can't write against a read only replica.",
        "MOVED 3999 127.0.0.1:1",
        "ASK 3999 127.0.0.1:1",
        "NOSCRIPT No matching script. Please use EVAL.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "NOREPLICAS Not enough good replicas to write.",
        "ERR max number of clients reached",
    ] {
        field.proxy.answer(reply, 8, |name| matches!(name, "EVALSHA" | "SCRIPT" | "HGET" | "HMGET"));
        let start = Instant::now();
        field.runs().await;
        println!("{:?}: {reply}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_what_is_accepted_goes_on_and_keeps_its_leases() {
    let server = Server::start();
    let (seen, _) = leases::seen();
    let app = leases::app(server.url(), &seen).await;
    let _coordinator = app.coordinator(leases::coordinator());
    let _workers = [app.worker(leases::worker()), app.worker(leases::worker())];
    // It runs for ten leases; all the time but the first there is no memory.
    let run = app.submit(leases::sig("slow")).await.unwrap();
    sleep(leases::LEASE).await;
    server.config_set("maxmemory", 1);
    let refused = app.backend().submit(new_run()).await.unwrap_err();
    assert!(!refused.may_retry() && refused.to_string().contains("raise maxmemory"), "{refused}");
    let start = Instant::now();
    let refused = app.submit(leases::sig("number")).await.expect_err("it cannot be stored");
    assert!(start.elapsed() < leases::LEASE, "{refused} after {:?}", start.elapsed());
    assert_eq!(run.get_json(Some(PATIENCE)).await.unwrap().as_str(), "7");
    assert_eq!(seen.calls.load(Ordering::SeqCst), 1, "its lease was kept");
    server.config_set("maxmemory", 0);
    while app.submit(leases::sig("number")).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "it takes runs again");
        sleep(leases::LEASE).await;
    }
}

fn new_run() -> NewRun {
    let plan = Plan::compile(&leases::sig("number")).expect("it is one leaf");
    NewRun::new(RunId::from_parts(1, 1).incarnation(Incarnation::new(1)), Arc::new(plan))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_a_replica_for_a_while_is_outlasted() {
    let field = Field::start().await;
    field.runs().await;
    field.tell(&["REPLICAOF", "127.0.0.1", "1"]);
    let late = tokio::spawn({
        let client = field.client.clone();
        async move { runs(&client).await }
    });
    let error = field.client.backend().submit(new_run()).await.unwrap_err();
    assert!(error.may_retry() && error.to_string().contains("name the primary"), "{error}");
    let rate = field.commands_per_second().await;
    assert!(!late.is_finished() && rate < 100.0, "{rate} commands a second");
    field.tell(&["REPLICAOF", "NO", "ONE"]);
    late.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_somebody_else_that_keeps_redis_busy_is_outlasted() {
    let field = Field::start().await;
    field.server.config_set("busy-reply-threshold", 50);
    let mut connection = field.server.connection();
    let busy = tokio::task::spawn_blocking(move || {
        // It runs until it is killed.
        let script = "while true do end";
        let _: redis::RedisResult<()> = redis::cmd("EVAL").arg(script).arg(0).query(&mut connection);
    });
    sleep(Duration::from_millis(200)).await;
    let error = field.client.backend().list(None, 1).await.unwrap_err();
    assert!(error.may_retry() && error.to_string().contains("busy with a script"), "{error}");
    let late = tokio::spawn({
        let client = field.client.clone();
        async move { runs(&client).await }
    });
    sleep(WHILE).await;
    let client = redis::Client::open(field.server.url()).unwrap();
    redis::cmd("SCRIPT").arg("KILL").exec(&mut client.get_connection().unwrap()).unwrap();
    busy.await.unwrap();
    late.await.unwrap();
}

/// Checks that nobody asks in haste while something is wrong, and that work goes on when it is mended.
async fn check_denied(field: Field, deny: &[&[&str]], mend: &[&[&str]], what: &str) {
    field.runs().await;
    for command in deny {
        field.tell(command);
    }
    let rate = field.commands_per_second().await;
    println!("{what}: {rate} commands a second");
    assert!(rate < 50.0, "{rate} commands a second");
    for command in mend {
        field.tell(command);
    }
    field.runs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_is_said_and_not_tried_in_haste() {
    let field = Field::start_as("limited:secret@").await;
    let told = told_when_denied(&field, &["ACL", "SETUSER", "limited", "resetpass", ">other"]).await;
    assert!(told.to_string().contains("check user and password"), "{told}");
    field.tell(&["ACL", "SETUSER", "limited", "resetpass", ">secret"]);
    check_denied(
        field,
        &[&["ACL", "SETUSER", "limited", "resetpass", ">other"], &["CLIENT", "KILL", "USER", "limited"]],
        &[&["ACL", "SETUSER", "limited", "resetpass", ">secret"]],
        "password",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_was_taken_is_said_and_not_tried_in_haste() {
    let field = Field::start_as("limited:secret@").await;
    let told = told_when_denied(&field, &["ACL", "SETUSER", "limited", "-zrevrangebylex"]).await;
    assert!(told.to_string().contains("may not run"), "{told}");
    check_denied(
        field,
        &[&["ACL", "SETUSER", "limited", "-evalsha"]],
        &[&["ACL", "SETUSER", "limited", "+@all"]],
        "permission",
    )
    .await;
}

/// What a client that is this user hears.
async fn told_when_denied(field: &Field, deny: &[&str]) -> BackendError {
    let backend = RedisBackend::builder(field.server.url_as("limited", "secret")).connect().await.unwrap();
    field.tell(deny);
    field.tell(&["CLIENT", "KILL", "USER", "limited"]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = backend.list(None, 1).await.unwrap_err();
        if error.kind == ErrorKind::Denied {
            return error;
        }
        assert!(Instant::now() < deadline && error.may_retry(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_asked_for_from_now_on_is_said_and_not_tried_in_haste() {
    let field = Field::start().await;
    check_denied(
        field,
        &[&["CONFIG", "SET", "requirepass", "new"], &["CLIENT", "KILL", "USER", "default"]],
        &[&["CONFIG", "SET", "requirepass", ""]],
        "requirepass",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_a_wrong_type_is_said_and_not_tried_in_haste() {
    let field = Field::start().await;
    let key = "replies:{q:celery}:stream";
    check_denied(field, &[&["SET", key, "no stream"]], &[&["DEL", key]], "type").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_that_was_away_is_outlasted() {
    let cluster = Cluster::start();
    let crew = Crew::start(cluster.backend().await, 1, 1);
    runs(&crew.app).await;
    let node = &cluster.nodes()[1];
    node.kill();
    let late: Vec<_> = (0..10)
        .map(|_| {
            let client = crew.app.clone();
            tokio::spawn(async move { runs(&client).await })
        })
        .collect();
    sleep(WHILE).await;
    node.start_again();
    cluster.wait();
    for late in late {
        late.await.unwrap();
    }
}
