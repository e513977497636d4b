//! Users who may do what their role needs and nothing else: all works for them, and Redis has nothing to
//! complain of. And permissions that are taken away while all runs: nothing is lost, and nothing ends.

use std::time::{Duration, Instant};

use celeriac_backends::{DeadLetters as _, Requeued, Store as _};
use celeriac_conformance::bench::sig;
use celeriac_conformance::random::Shape;
use celeriac_conformance::whole::Crew;
use celeriac_primitives::{Canvas, Json, Options, Signature};
use celeriac_redis::acl::{Role, rules};
use celeriac_redis::{RedisBackend, RedisBuilder};
use celeriac_runtime::{CoordinatorOptions, GetError, Handle, WorkerOptions};
use celeriac_testkit::{Cluster, Server, ServerBuilder};

use crate::setting;

/// Another app has the beginning of it.
const PREFIX: &str = "house:of";

const PATIENCE: Duration = Duration::from_secs(60);

/// What comes back with a permission comes back within this; what was let go meanwhile waits for its lease.
const BACK_WITHIN: Duration = Duration::from_secs(30);

fn name(role: Role) -> &'static str {
    match role {
        Role::Worker => "worker",
        Role::Coordinator => "coordinator",
        Role::Client => "client",
        _ => "reader",
    }
}

/// A server that has a user of each role.
fn with_users(builder: ServerBuilder) -> ServerBuilder {
    Role::ALL.into_iter().fold(builder, |builder, role| {
        let (name, rules) = (name(role), rules(PREFIX, &[role]).expect("a prefix"));
        builder.acl(&format!("{name} on >{name}-secret {rules}"))
    })
}

/// Where the users connect, and the servers there.
struct Place<'s> {
    url: String,
    servers: Vec<&'s Server>,
}

impl Place<'_> {
    fn builder(&self, role: Role) -> RedisBuilder {
        let name = name(role);
        let url = self.url.replace("://", &format!("://{name}:{name}-secret@"));
        RedisBackend::builder(url)
            .prefix(PREFIX)
            .inline_bytes_max(256)
            .queues_kept_for(Duration::from_secs(2))
    }

    async fn backend(&self, role: Role) -> RedisBackend {
        self.builder(role).connect().await.expect("a user with its role's rules connects")
    }

    /// Asks all servers as a user who may do everything.
    fn tell<T: redis::FromRedisValue>(&self, words: &[&str]) -> Vec<T> {
        let ask = |server: &&Server| {
            redis::cmd(words[0]).arg(&words[1..]).query(&mut server.connection()).expect("it does so")
        };
        self.servers.iter().map(ask).collect()
    }

    /// What Redis has refused, in its own words.
    fn refused(&self) -> Vec<String> {
        let entry = |entry: redis::Value| {
            let text = format!("{entry:?}");
            text.split("client-info").next().unwrap_or_default().to_owned()
        };
        self.tell::<Vec<redis::Value>>(&["ACL", "LOG"]).into_iter().flatten().map(entry).collect()
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn worker() -> WorkerOptions {
    WorkerOptions::default().concurrency(3).unknown_wait(Duration::ZERO)
}

fn coordinator() -> CoordinatorOptions {
    CoordinatorOptions { sweep_every: Duration::from_millis(200), ..CoordinatorOptions::default() }
}

/// Its leaves wait for their time, are tried again, are large, and are in a queue of a priority of its own.
fn of_all_kinds() -> Canvas {
    let identity = |text: &str| Signature::new("identity").unwrap().arg(text).unwrap();
    let late =
        Options::new().with_countdown(Duration::from_millis(100)).with_expires(Duration::from_secs(600));
    let urgent = Options::new().with_queue("mail").unwrap().with_priority(9).unwrap();
    Canvas::group([
        identity("late").set(&late).into(),
        identity("urgent").set(&urgent).into(),
        Canvas::chain([identity(&"large".repeat(1000)).into(), sig("identity")]),
    ])
}

async fn lives(place: Place<'_>) {
    let crew = Crew::alone(place.backend(Role::Client).await);
    let working = crew.app_on(place.backend(Role::Worker).await);
    let coordinating = crew.app_on(place.backend(Role::Coordinator).await);
    let workers = [working.worker(worker()), working.worker(worker())];
    let coordinators = [coordinating.coordinator(coordinator()), coordinating.coordinator(coordinator())];
    workers.iter().for_each(|worker| worker.add_queue("mail"));
    crew.check_tables().await;
    crew.check_random(1..30, &Shape::default()).await;

    // Who only looks sees all of it.
    let looking = place.backend(Role::ReadOnly).await;
    let reader = crew.app_on(looking.clone());
    let run = crew.app.submit(of_all_kinds()).await.unwrap();
    let seen: Handle<Json> = reader.run(run.id()).await.unwrap().expect("it is there");
    let value = seen.get_json(Some(PATIENCE)).await.unwrap();
    assert_eq!(value.as_str().len(), 5000 + r#"["late","urgent",""]"#.len());
    seen.ended().await.unwrap();
    seen.tree().await.unwrap();
    seen.segments().await.unwrap();
    seen.progress().await.unwrap();
    assert_eq!(looking.list(None, 9).await.unwrap(), [run.id()]);

    // What nobody can read, in both places where somebody looks.
    let queue = format!("{PREFIX}:{{q:celery}}:stream");
    let events = format!("{PREFIX}:{{events}}:stream");
    until("what is garbage is set aside", async || {
        if looking.dead_letters(None, 9).await.unwrap().is_empty() {
            for key in [&queue, &events] {
                for server in &place.servers {
                    let _ =
                        redis::cmd("XADD").arg(key).arg("*").arg("x").arg("y").exec(&mut server.connection());
                }
            }
        }
        looking.dead_letters(None, 9).await.unwrap().len() >= 2
    })
    .await;
    let client = place.backend(Role::Client).await;
    let letters = client.dead_letters(None, 9).await.unwrap();
    for letter in &letters {
        assert!(matches!(client.requeue(letter.id).await.unwrap(), Requeued::Yes), "{letter:?}");
    }
    until("they are there again", async || {
        client.dead_letters(None, 9).await.unwrap().len() >= letters.len()
    })
    .await;
    for letter in client.dead_letters(None, 9).await.unwrap() {
        assert!(client.drop_letter(letter.id).await.unwrap());
    }
    run.forget().await.unwrap();
    for worker in workers {
        worker.shutdown(Duration::from_secs(10)).await;
    }
    // Sweeps look at what nobody uses any more, and take it away.
    until("a queue that nobody uses goes away", async || {
        let line = format!("{PREFIX}:{{q:mail}}:stream");
        place.servers.iter().all(|server| server.keys(&line).is_empty()) || !place.refused().is_empty()
    })
    .await;
    drop(coordinators);
    assert_eq!(place.refused(), Vec::<String>::new());

    // Who only looks changes nothing, and is told which permission it lacks.
    let refused = reader.submit(sig("noargs")).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("this Redis user may not run '") && text.contains("celeriac acl"), "{text}");
    assert!(looking.list(None, 9).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_all_it_has_to_with_its_own_rules() {
    let server = with_users(Server::builder()).start();
    lives(Place { url: server.url(), servers: vec![&server] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_all_it_has_to_with_its_own_rules_on_a_cluster() {
    let cluster = Cluster::start_with(with_users(Server::builder()));
    lives(Place { url: cluster.url(), servers: cluster.nodes().iter().collect() }).await;
}

/// Neither keys, nor channels, nor commands that have nothing to do with the role.
#[test]
fn the_rules_of_a_prefix_reach_nothing_else() {
    let server = with_users(Server::builder()).start();
    let mut connection = server.connection();
    let mut dryrun = |role: Role, words: &[&str]| -> bool {
        let reply: redis::RedisResult<String> =
            redis::cmd("ACL").arg("DRYRUN").arg(name(role)).arg(words).query(&mut connection);
        reply.is_ok_and(|text| text == "OK")
    };
    for role in Role::ALL {
        assert!(dryrun(role, &["HGET", "house:of:{x}:run", "m"]));
        assert!(dryrun(role, &["SUBSCRIBE", "house:of:changed:d7"]));
        assert!(dryrun(role, &["SUBSCRIBE", "house:of:wake:0123456789abcdef"]));
        for words in [
            &["HGET", "house:{x}:run", "m"][..],
            &["HGET", "house:of:more:{x}:run", "m"],
            &["HGET", "other", "m"],
            &["SUBSCRIBE", "house:changed:7"],
            &["SUBSCRIBE", "house:of:wake:{q:celery}:stream"],
            &["PSUBSCRIBE", "*"],
            &["FLUSHALL"],
            &["FLUSHDB"],
            &["CONFIG", "GET", "requirepass"],
            &["KEYS", "*"],
            &["SCAN", "0"],
            &["ACL", "LIST"],
            &["DEBUG", "SLEEP", "0"],
            &["CLIENT", "KILL", "TYPE", "normal"],
            &["SCRIPT", "FLUSH"],
            &["MIGRATE", "h", "1", "house:of:{x}:run", "0", "1"],
        ] {
            // A coordinator looks for what is on no list.
            let may_look = role == Role::Coordinator && words[0] == "SCAN";
            assert_eq!(dryrun(role, words), may_look, "{role:?} {words:?}");
        }
    }
    for words in [&["HSET", "house:of:{x}:run", "m", "1"][..], &["XADD", "house:of:{x}:s", "*", "a", "b"]] {
        assert!(!dryrun(Role::ReadOnly, words) && dryrun(Role::Client, words), "{words:?}");
    }
    assert!(!dryrun(Role::ReadOnly, &["PUBLISH", "house:of:changed:7", ""]));
    assert!(!dryrun(Role::Client, &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "house:of:{x}:s", ">"]));
}

/// What is taken away, and what brings it back.
fn losses() -> Vec<(String, String)> {
    let commands = ["xadd", "hset", "xreadgroup", "evalsha", "xclaim"];
    let all: Vec<String> = match setting("CELERIAC_PERMISSIONS", 0) {
        0 => commands.map(str::to_owned).to_vec(),
        _ => {
            let both = rules(PREFIX, &[Role::Worker, Role::Coordinator]).expect("a prefix");
            both.split(' ').filter_map(|rule| rule.strip_prefix('+')).map(str::to_owned).collect()
        }
    };
    let mut losses: Vec<_> =
        all.into_iter().map(|command| (format!("-{command}"), format!("+{command}"))).collect();
    losses.push(("resetkeys".to_owned(), format!("~{PREFIX}:{{*")));
    losses.push(("resetchannels".to_owned(), format!("&{PREFIX}:*")));
    losses
}

/// Each in its turn, from workers and coordinators, while runs are under way. Leaves may run again, since a
/// step may have been half taken; but none is lost, and none fails for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_taken_away_and_is_back_ends_nothing() {
    let server = with_users(Server::builder()).start();
    let place = Place { url: server.url(), servers: vec![&server] };
    let crew = Crew::alone(RedisBackend::builder(server.url()).prefix(PREFIX).connect().await.unwrap());
    let working = crew.app_on(place.backend(Role::Worker).await);
    let coordinating = crew.app_on(place.backend(Role::Coordinator).await);
    let lease = Duration::from_secs(1);
    let _worker = working.worker(worker().lease(lease));
    let _coordinator = coordinating.coordinator(CoordinatorOptions { lease, ..coordinator() });
    let canvas = || {
        let header: Vec<Canvas> = (0..20)
            .map(|number| Signature::new("add").unwrap().arg(number).unwrap().arg(1).unwrap().into())
            .collect();
        Canvas::chain([Canvas::chord(header, sig("tsum")), sig("identity"), sig("identity")])
    };
    for (loss, back) in losses() {
        let before = crew.app.submit(canvas()).await.unwrap();
        for user in ["worker", "coordinator"] {
            place.tell::<()>(&["ACL", "SETUSER", user, &loss]);
        }
        let run = crew.app.submit(canvas()).await.unwrap();
        // For longer than a lease.
        tokio::time::sleep(lease + lease / 3).await;
        for user in ["worker", "coordinator"] {
            place.tell::<()>(&["ACL", "SETUSER", user, &back]);
        }
        for run in [before, run] {
            match run.get_json(Some(BACK_WITHIN)).await {
                Ok(value) => assert_eq!(value.as_str(), "210", "{loss}"),
                Err(GetError::Timeout(_)) => {
                    panic!("{loss}: not within {BACK_WITHIN:?}\n{}", run.tree().await.unwrap())
                }
                Err(error) => panic!("{loss}: {error}"),
            }
        }
    }
}

/// A client is told at once, which command and where to look.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_which_permission_it_lacks() {
    let server = with_users(Server::builder()).start();
    let place = Place { url: server.url(), servers: vec![&server] };
    let crew = Crew::alone(place.backend(Role::Client).await);
    crew.app.submit(sig("noargs")).await.unwrap();
    for (loss, back, words) in [
        ("-evalsha", "+evalsha", "may not run 'evalsha'"),
        ("-hset", "+hset", "may not run 'hset'"),
        ("resetkeys", "~house:of:{*", "may not use one of the keys"),
    ] {
        place.tell::<()>(&["ACL", "SETUSER", "client", loss]);
        let error = crew.app.submit(sig("noargs")).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(words) && error.contains("`celeriac acl`"), "{loss}: {error}");
        assert!(!error.contains("secret"), "{error}");
        place.tell::<()>(&["ACL", "SETUSER", "client", back]);
        crew.app.submit(sig("noargs")).await.unwrap();
    }
    // Hints are no more than that.
    place.tell::<()>(&["ACL", "SETUSER", "client", "resetchannels"]);
    crew.app.submit(sig("noargs")).await.unwrap();
}
