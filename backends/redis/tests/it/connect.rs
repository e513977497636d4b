//! Every way to connect, and what a user who may not is told.

use std::time::{Duration, Instant};

use celeriac_backends::{ErrorKind, Store};
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
async fn a_user_with_the_rights_that_the_documentation_names_can_connect() {
    let commands = "+evalsha +script|load +ping +@read +zrem +zadd +zpopmin +pubsub|numsub +sadd +hset +append +expire +multi \
         +exec +time";
    let acl = format!("limited on >secret resetchannels &limited:* ~limited:* {commands}");
    let server = Server::builder().acl(&acl).start();
    answers(RedisBackend::builder(server.url_as("limited", "secret")).prefix("limited")).await;
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
        (plain.url_as("idle", "secret"), denied, "lacks a permission"),
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
