//! TLS with certificates that the kit made.

use std::fs;
use std::sync::Once;

use celeriac_testkit::{Certificates, Server};
use redis::{Client, ClientTlsConfig, RedisResult, TlsCertificates};

/// Says PING over TLS, trusting one authority, and showing a certificate if one is given.
fn ping(server: &Server, trusted: &Certificates, shown: Option<&Certificates>) -> RedisResult<String> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let client_tls = shown.map(|files| ClientTlsConfig {
        client_cert: fs::read(files.client_certificate()).unwrap(),
        client_key: fs::read(files.client_key()).unwrap(),
    });
    let root_cert = Some(fs::read(trusted.ca()).unwrap());
    let client = Client::build_with_tls(server.tls_url(), TlsCertificates { client_tls, root_cert })?;
    redis::cmd("PING").query(&mut client.get_connection()?)
}

#[test]
fn a_client_that_trusts_the_authority_comes_in_and_another_does_not() {
    let server = Server::builder().tls().start();
    let files = server.certificates().unwrap();
    assert_eq!(ping(&server, files, None).unwrap(), "PONG");
    assert_eq!(ping(&server, files, Some(files)).unwrap(), "PONG");
    let directory = tempfile::tempdir().unwrap();
    let strange = Certificates::make(directory.path());
    ping(&server, &strange, None).unwrap_err();
    ping(&server, files, Some(&strange)).unwrap_err();
}

#[test]
fn a_client_has_to_show_a_certificate_when_told_so() {
    let server = Server::builder().tls_mutual().start();
    let files = server.certificates().unwrap();
    ping(&server, files, None).unwrap_err();
    assert_eq!(ping(&server, files, Some(files)).unwrap(), "PONG");
    server.crash_and_restart();
    assert_eq!(ping(&server, files, Some(files)).unwrap(), "PONG");
}
