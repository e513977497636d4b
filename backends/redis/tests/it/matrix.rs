//! Who may connect: TLS, passwords and permissions on real servers, row by row. Each works, or is refused
//! soon and in words of its own that say what to do; and nobody's password is among them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac_backends::{BackendError, ErrorKind, Queue as _, Store as _, Take, WorkerId};
use celeriac_redis::RedisBackend;
use celeriac_redis::acl::{Role, rules};
use celeriac_testkit::{Certificates, Cluster, Server};

/// What is printed nowhere.
const SECRET: &str = "s3cret";

/// Who says nothing is given up after three seconds; a busy machine takes its time besides.
const WITHIN: Duration = Duration::from_secs(6);

/// What is to come of a row.
#[derive(Clone, Copy, Debug)]
enum Expect {
    Works,
    /// With these words, of which a person knows what to do.
    Denied(&'static str),
    Away(&'static str),
}

use Expect::{Away, Denied, Works};

/// Connects, looks at runs and takes leaves.
async fn tried(url: &str) -> Result<(), BackendError> {
    let backend = RedisBackend::builder(url).prefix("matrix").connect().await?;
    backend.list(None, 1).await?;
    let take = Take::new(1, Duration::from_secs(30)).wait(Duration::ZERO);
    backend.receive(&WorkerId::new("w"), &[Arc::from("celery")], take).await.map(drop)
}

async fn check(rows: &[(&str, String, Expect)]) {
    let mut wrong = Vec::new();
    for (row, url, expect) in rows {
        let start = Instant::now();
        let answer = tried(url).await;
        let took = start.elapsed();
        let (kind, words) = match expect {
            Works => (None, ""),
            Denied(words) => (Some(ErrorKind::Denied), *words),
            Away(words) => (Some(ErrorKind::Unavailable), *words),
        };
        let text = answer.as_ref().err().map(|error| format!("{error} {error:?}")).unwrap_or_default();
        let told = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let is_right = answer.as_ref().err().map(|error| error.kind) == kind
            && told.contains(words)
            && took < WITHIN
            && !text.contains(SECRET);
        if !is_right {
            wrong.push(format!("{row}: {answer:?} after {took:?}, not {expect:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn with(url: String, options: &[(&str, PathBuf)]) -> String {
    let options: Vec<String> =
        options.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
    format!("{url}?{}", options.join("&"))
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_right_or_it_is_said_which_are_not() {
    let (server, mutual) = (Server::builder().tls().start(), Server::builder().tls_mutual().start());
    let others = tempfile(&server, "others");
    let strange = Certificates::make(&others);
    let (own, asked) = (server.certificates().unwrap(), mutual.certificates().unwrap());
    let shown = |from: &Certificates| [("cert", from.client_certificate()), ("key", from.client_key())];
    let expired = [("ca", asked.ca()), ("cert", asked.expired_certificate()), ("key", asked.expired_key())];
    let trusting =
        |ca: &Certificates, client: &Certificates| [&[("ca", ca.ca())][..], &shown(client)].concat();
    let says = "check the certificates";
    check(&[
        ("no TLS, none wanted", server.url(), Works),
        ("the right authority", with(server.tls_url(), &[("ca", own.ca())]), Works),
        ("another authority", with(server.tls_url(), &[("ca", strange.ca())]), Denied(says)),
        ("the system's authorities", server.tls_url(), Denied(says)),
        ("a certificate that nobody asks for", with(server.tls_url(), &trusting(own, own)), Works),
        ("a certificate, given", with(mutual.tls_url(), &trusting(asked, asked)), Works),
        ("a certificate, missing", with(mutual.tls_url(), &[("ca", asked.ca())]), Denied(says)),
        (
            "a certificate of another authority",
            with(mutual.tls_url(), &trusting(asked, &strange)),
            Denied(says),
        ),
        ("a certificate that has expired", with(mutual.tls_url(), &expired), Denied(says)),
        ("a certificate without its key", with(mutual.tls_url(), &shown(asked)[..1]), Denied("takes both")),
        (
            "a file that is not there",
            format!("{}?ca=/no/such/file", server.tls_url()),
            Denied("cannot be read"),
        ),
        (
            "a file without a certificate",
            format!("{}?ca=/dev/null", server.tls_url()),
            Denied("no certificate"),
        ),
        (
            "no TLS where there is a certificate",
            with(server.url(), &[("ca", own.ca())]),
            Denied("write rediss://"),
        ),
        ("TLS to a port without", server.url().replace("redis:", "rediss:"), Away("must speak TLS")),
        ("no TLS to a port with", server.tls_url().replace("rediss:", "redis:"), Away("")),
    ])
    .await;
}

fn tempfile(server: &Server, name: &str) -> PathBuf {
    let path = server.directory().join(name);
    std::fs::create_dir_all(&path).expect("the directory is writable");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_right_or_it_is_said_that_they_are_not() {
    let open = Server::start();
    let right = "s3cret-right";
    let closed = |builder: celeriac_testkit::ServerBuilder| {
        builder
            .requirepass(right)
            .acl(&format!("me on >{right} ~* &* +@all"))
            .acl(&format!("off off >{right} ~* &* +@all"))
            .acl("nobody on ~* &* +@all")
    };
    let server = closed(Server::builder()).start();
    let says = "check user and password in the URL";
    check(&[
        ("none needed, none given", open.url(), Works),
        ("none needed, one given", open.url_as("", "s3cret-any"), Denied(says)),
        ("none needed, an unknown user given", open.url_as("me", "s3cret-any"), Denied(says)),
        ("the default user's, right", server.url_as("", right), Works),
        ("the default user's, by its name", server.url_as("default", right), Works),
        ("the default user's, wrong", server.url_as("", "s3cret-wrong"), Denied(says)),
        ("the default user's, missing", server.url(), Denied(says)),
        ("a user's, right", server.url_as("me", right), Works),
        ("a user's, wrong", server.url_as("me", "s3cret-wrong"), Denied(says)),
        ("a user who is off", server.url_as("off", right), Denied(says)),
        ("a user without a password", server.url_as("nobody", right), Denied(says)),
        ("a user who is unknown", server.url_as("who", right), Denied(says)),
    ])
    .await;

    let cluster = Cluster::start_with(closed(Server::builder()));
    let url_as = |user: &str, password: &str| cluster.url().replace("://", &format!("://{user}:{password}@"));
    check(&[
        ("on a Cluster, right", url_as("me", right), Works),
        ("on a Cluster, the default user's", url_as("", right), Works),
        ("on a Cluster, wrong", url_as("me", "s3cret-wrong"), Denied(says)),
        ("on a Cluster, missing", cluster.url(), Denied(says)),
        ("on a Cluster, off", url_as("off", right), Denied(says)),
        ("on a Cluster, unknown", url_as("who", right), Denied(says)),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_there_or_it_is_said_which_are_not() {
    let of = |roles: &[Role]| rules("matrix", roles).expect("a prefix");
    let both = of(&[Role::Worker, Role::Client]);
    let without = |what: &str| both.replace(&format!(" {what}"), "");
    let users = [
        ("all", both.clone()),
        ("dangerous", "~* &* +@all -@dangerous".to_owned()),
        ("noinfo", without("+info")),
        ("noscript", without("+evalsha")),
        ("noload", without("+script|load")),
        ("nolist", without("+zrevrangebylex")),
        ("notake", without("+xreadgroup")),
        ("nokeys", both.replace("~matrix:{*", "~other:{*")),
        ("nochannels", both.replace("&matrix:", "&other:")),
        ("worker", of(&[Role::Worker])),
        ("client", of(&[Role::Client])),
        ("reader", of(&[Role::ReadOnly])),
        ("coordinator", of(&[Role::Coordinator])),
    ];
    let with_users = |builder| {
        users.iter().fold(builder, |builder: celeriac_testkit::ServerBuilder, (name, rules)| {
            builder.acl(&format!("{name} on >s3cret {rules}"))
        })
    };
    let server = with_users(Server::builder()).start();
    let cluster = Cluster::start_with(with_users(Server::builder()));
    let rows = |url: &str| {
        // A leaf, so that there is something to take.
        let row = |row, user: &str, expect| (row, url.replace("://", &format!("://{user}:s3cret@")), expect);
        [
            row("all that is needed", "all", Works),
            row("nothing that is dangerous", "dangerous", Works),
            row("without INFO", "noinfo", Works),
            row("without channels", "nochannels", Works),
            row("without scripts", "noscript", Denied("may not run 'evalsha'")),
            row("without a command", "nolist", Denied("may not run 'zrevrangebylex'")),
            row("without a command in a script", "notake", Denied("may not run")),
            row("without the keys", "nokeys", Denied("may not use one of the keys")),
            row("a worker lists nothing", "worker", Denied("may not run 'zrevrangebylex'")),
            row("a client takes nothing", "client", Denied("may not run")),
            row("who looks takes nothing", "reader", Denied("may not run")),
            row("a coordinator may both", "coordinator", Works),
        ]
    };
    for (url, server) in
        [(server.url(), &server), (cluster.url(), cluster.node_of("matrix:{q:celery}:stream"))]
    {
        let stream = ["matrix:{q:celery}:stream", "*", "x", "y"];
        redis::cmd("XADD").arg(&stream).exec(&mut server.connection()).unwrap();
        check(&rows(&url)).await;
    }
}

/// Until it answers again: for so long at most.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Puts an authority and a client's certificate where the URL names them.
fn put(from: &Certificates, folder: &Path) {
    for (from, to) in
        [(from.ca(), "ca.pem"), (from.client_certificate(), "cert.pem"), (from.client_key(), "key.pem")]
    {
        std::fs::copy(from, folder.join(to)).expect("both are files");
    }
}

/// As when what is mounted is renewed: first in the files, or first on the server.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_renewed_are_used_without_a_restart() {
    let server = Server::builder().tls_mutual().start();
    let (folder, next) = (tempfile(&server, "mounted"), Certificates::make(&tempfile(&server, "next")));
    put(server.certificates().unwrap(), &folder);
    let options =
        [("ca", folder.join("ca.pem")), ("cert", folder.join("cert.pem")), ("key", folder.join("key.pem"))];
    let backend = RedisBackend::connect(with(server.tls_url(), &options)).await.unwrap();
    backend.list(None, 1).await.unwrap();

    let path = |path: PathBuf| path.display().to_string();
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("tls-cert-file").arg(path(next.server_certificate()));
    set.arg("tls-key-file").arg(path(next.server_key())).arg("tls-ca-cert-file").arg(path(next.ca()));
    set.exec(&mut server.connection()).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("USER").arg("default").exec(&mut server.connection()).unwrap();
    let start = Instant::now();
    // Some commands are lost with the connection; then it is refused.
    while !matches!(backend.list(None, 1).await, Err(error) if error.kind == ErrorKind::Denied) {
        assert!(start.elapsed() < BACK_WITHIN, "it is not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    put(&next, &folder);
    let start = Instant::now();
    while let Err(error) = backend.list(None, 1).await {
        assert!(start.elapsed() < BACK_WITHIN, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
