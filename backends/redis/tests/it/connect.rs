//! Every way to connect, and what a user who may not is told.

use std::time::{Duration, Instant};

use celeriac_backends::{ErrorKind, NewRun, Store};
use celeriac_conformance::bench::{run_id, sigs};
use celeriac_engine::Plan;
use celeriac_primitives::Canvas;
use celeriac_redis::{RedisBackend, RedisBuilder};
use celeriac_testkit::Server;

async fn answers(builder: RedisBuilder) {
    let backend = builder.connect().await.expect("it connects");
    assert!(backend.list(None, 1).await.expect("it answers").is_empty());
}

#[tokio::test]
async fn a_unix_socket_and_another_database_are_ways_to_connect() {
    let server = Server::builder().unix_socket().start();
    answers(RedisBackend::builder(server.unix_url())).await;
    answers(RedisBackend::builder(format!("{}/3", server.url()))).await;
}

#[tokio::test]
async fn tls_needs_the_authority_and_shows_the_client() {
    let server = Server::builder().tls_mutual().start();
    let files = server.certificates().expect("the server has certificates");
    let read = |path: std::path::PathBuf| std::fs::read(path).expect("the file is there");
    let builder = || RedisBackend::builder(server.tls_url()).tls_ca(read(files.ca()));
    answers(builder().tls_client(read(files.client_certificate()), read(files.client_key()))).await;
    let (ca, cert, key) = (files.ca(), files.client_certificate(), files.client_key());
    let query = format!("?ca={}&cert={}&key={}", ca.display(), cert.display(), key.display());
    answers(RedisBackend::builder(server.tls_url() + &query)).await;
    let unknown = RedisBackend::connect(server.tls_url()).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::Denied, "{unknown} {:?}", unknown.source);
    let nobody = builder().connect().await.unwrap_err();
    assert_eq!(nobody.kind, ErrorKind::Denied, "{nobody} {:?}", nobody.source);
    assert!(nobody.to_string().contains("check the certificates"), "{nobody}");
}

/// Who runs a Redis for many takes `@dangerous` away, which `INFO` and `CONFIG` belong to.
#[tokio::test]
async fn a_user_without_the_dangerous_commands_can_connect() {
    let server = Server::builder().acl("careful on >secret ~* &* +@all -@dangerous").start();
    answers(RedisBackend::builder(server.url_as("careful", "secret"))).await;
}

/// Each is told in its own words and soon, whoever does not answer included.
#[tokio::test]
async fn whoever_cannot_connect_is_told_why_within_three_seconds() {
    let plain = Server::builder().acl("me on >secret ~* &* +@all").acl("idle on >secret ~* +ping").start();
    let tls = Server::builder().tls_mutual().start();
    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("redis://{}", silent.local_addr().unwrap());
    let (denied, away) = (ErrorKind::Denied, ErrorKind::Unavailable);
    let cases = [
        (plain.url().replace("redis:", "rediss:"), away, "with rediss:// a server must speak TLS"),
        (tls.tls_url().replace("rediss:", "redis:"), away, ""),
        (silent, away, "nobody has answered within 3 s"),
        ("redis://127.0.0.1:1".to_owned(), away, ""),
        (format!("{}/99", plain.url()), denied, "no database of this number"),
        (plain.url_as("me", "wrong"), denied, "check user and password"),
        (plain.url_as("nobody", "secret"), denied, "check user and password"),
        (plain.url_as("idle", "secret"), denied, "may not run 'zrevrangebylex'"),
    ];
    for (url, kind, words) in cases {
        let start = Instant::now();
        let told = match RedisBackend::connect(&url).await {
            Ok(backend) => backend.list(None, 1).await.expect_err(&url),
            Err(error) => error,
        };
        let took = start.elapsed();
        assert!(took < Duration::from_secs(4), "{url}: {took:?}");
        assert_eq!(told.kind, kind, "{url}: {told}");
        assert!(told.to_string().contains(words), "{url}: {told}");
        assert!(!told.to_string().contains("wrong"), "{url}: {told}");
    }
}

/// Until it answers again: for so long at most.
const BACK_WITHIN: Duration = Duration::from_secs(10);

async fn until_it_answers(backend: &RedisBackend) {
    let start = Instant::now();
    while let Err(error) = backend.submit(run(2)).await {
        assert!(start.elapsed() < BACK_WITHIN, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn run(number: u64) -> NewRun {
    let plan = Plan::compile(&Canvas::group(sigs(&["a"]))).unwrap();
    NewRun::new(run_id(number), std::sync::Arc::new(plan))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_and_is_back_is_used_again() {
    let server = Server::builder().acl("me on >secret ~* &* +@all").start();
    let backend = RedisBackend::connect(server.url_as("me", "secret")).await.unwrap();
    backend.submit(run(1)).await.unwrap();
    let admin = |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec(&mut server.connection()).unwrap();
    };
    admin(&["ACL", "SETUSER", "me", "resetpass", ">other"]);
    admin(&["CLIENT", "KILL", "USER", "me"]);
    let start = Instant::now();
    // Some commands are lost with the connection; then it is refused.
    while !matches!(backend.list(None, 1).await, Err(error) if error.kind == ErrorKind::Denied) {
        assert!(start.elapsed() < BACK_WITHIN, "it is not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    admin(&["ACL", "SETUSER", "me", "resetpass", ">secret"]);
    until_it_answers(&backend).await;
}

/// A name behind which another server may be with each connection.
async fn name(target: std::sync::Arc<std::sync::Mutex<std::net::SocketAddr>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let target = *target.lock().unwrap();
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    format!("redis://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_a_replica_now_is_left_for_the_one_behind_its_name() {
    let (before, after) = (Server::start(), Server::start());
    let target = std::sync::Arc::new(std::sync::Mutex::new(before.address()));
    let backend = RedisBackend::connect(name(target.clone()).await).await.unwrap();
    backend.submit(run(1)).await.unwrap();
    let (host, port) = ("127.0.0.1", after.port());
    redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut before.connection()).unwrap();
    let error = backend.submit(run(2)).await.unwrap_err();
    assert!(error.to_string().contains("name the primary"), "{error}");
    *target.lock().unwrap() = after.address();
    until_it_answers(&backend).await;
    assert!(after.dbsize() > 0);
}
