//! Every way to connect, and what a user who may not is told.

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
    let commands = "+evalsha +script|load +info +ping +@read +zrem +zadd +zpopmin +pubsub|numsub +sadd +hset +append +expire +multi \
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
