//! URLs and certificates: where Redis is, and how to show who we are.

use std::path::Path;
use std::sync::Arc;

use celeriac_backends::{BackendError, ErrorKind};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::TcpSettings;
use redis::{Client, ClientTlsConfig, IntoConnectionInfo, RedisResult, TlsCertificates};

use crate::error::refused;
use crate::source::{OfFiles, Sentinels, Source};

/// Where Redis is.
pub(crate) enum Address {
    /// One server, or the primary among some.
    One(Source),
    /// A Cluster: some of its nodes, each also as a server by itself.
    Cluster { nodes: Vec<Client>, builder: Box<ClusterClientBuilder> },
}

/// Who sentinels have configured no port for listens here.
const SENTINEL_PORT: u16 = 26_379;

/// Certificates in PEM form.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Whether each is what it should be: an empty file would be found out only when somebody connects.
    fn check(&self) -> Result<(), BackendError> {
        let (cert, key) = self.client.as_ref().map(|(cert, key)| (cert, key)).unzip();
        let parts = [
            ("ca", self.ca.as_ref(), "CERTIFICATE-----"),
            ("cert", cert, "CERTIFICATE-----"),
            ("key", key, "PRIVATE KEY-----"),
        ];
        for (name, pem, end) in parts {
            let is_there = |pem: &Vec<u8>| {
                let text = String::from_utf8_lossy(pem);
                text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(end))
            };
            if !pem.is_none_or(is_there) {
                let what = if name == "key" { "private key" } else { "certificate" };
                return Err(wrong(&format!("what is given as {name} has no {what} in PEM form")));
            }
        }
        Ok(())
    }

    fn certificates(self) -> TlsCertificates {
        TlsCertificates {
            client_tls: self
                .client
                .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            root_cert: self.ca,
        }
    }
}

/// What a URL is of, and whether it speaks TLS: how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheme {
    kind: Kind,
    is_tls: bool,
    /// What the URL of one server begins with, in the words of the client library.
    word: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Server,
    Socket,
    Cluster,
    Sentinel,
}

impl Kind {
    /// What is read from the query of a URL, besides certificates, and passed on to the client library.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Socket => &["protocol", "db", "user", "pass"],
            Self::Server | Self::Cluster | Self::Sentinel => &["protocol"],
        }
    }
}

impl Scheme {
    /// Reads how a URL begins, and returns what follows.
    fn split(url: &str) -> Result<(Self, &str), BackendError> {
        let is_none = || {
            wrong(
                "the URL begins like none of Redis: write redis://, unix://, redis-cluster:// or redis-sentinel://, \
                 and with TLS rediss://, rediss-cluster:// or rediss-sentinel://",
            )
        };
        // The client library takes two slashes or none.
        let (scheme, rest) = url.split_once(':').ok_or_else(is_none)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (kind, is_tls, word) = match scheme {
            "redis" | "valkey" => (Kind::Server, false, "redis"),
            "rediss" | "valkeys" => (Kind::Server, true, "rediss"),
            "unix" | "redis+unix" | "valkey+unix" => (Kind::Socket, false, "unix"),
            "redis-cluster" => (Kind::Cluster, false, "redis"),
            "rediss-cluster" => (Kind::Cluster, true, "rediss"),
            "redis-sentinel" => (Kind::Sentinel, false, "redis"),
            "rediss-sentinel" => (Kind::Sentinel, true, "rediss"),
            _ => return Err(is_none()),
        };
        Ok((Self { kind, is_tls, word }, rest))
    }
}

impl Address {
    /// Reads a URL; see [`crate::RedisBackend::connect`]. What would be passed over is refused: who names a
    /// certificate does not want to speak in the clear.
    pub(crate) fn parse(url: &str, tls: Tls) -> Result<Self, BackendError> {
        let address = Self::of_files(url, tls.clone())?;
        let names_files = url.contains("ca=") || url.contains("cert=");
        Ok(match address {
            Self::One(before) if names_files => {
                Self::One(Source::OfFiles(Arc::new(OfFiles { url: url.to_owned(), tls, before })))
            }
            address => address,
        })
    }

    /// Whether somebody of a name of his own connects, who may not do everything.
    pub(crate) fn has_user(&self) -> bool {
        match self {
            Self::One(source) => source.has_user(),
            Self::Cluster { nodes, .. } => {
                nodes.iter().any(|node| Source::Server(Box::new(node.clone())).has_user())
            }
        }
    }

    /// The same with what stands in the files of the certificates now.
    pub(crate) fn of_files(url: &str, tls: Tls) -> Result<Self, BackendError> {
        let (scheme, _) = Scheme::split(url)?;
        let (url, tls, sentinel_user) = options_of(url, scheme, tls)?;
        if url.contains('#') {
            if scheme.kind == Kind::Sentinel {
                return Err(wrong(SENTINEL_FORM));
            }
            return Err(wrong("the URL has a #: write %23 in a password; certificates are always checked"));
        }
        if !scheme.is_tls && (tls.ca.is_some() || tls.client.is_some()) {
            return Err(wrong(
                "there is a certificate, and the URL is of a connection without TLS: write rediss://, \
                 rediss-cluster:// or rediss-sentinel://",
            ));
        }
        tls.check()?;
        match scheme.kind {
            Kind::Server | Kind::Socket => {
                let client = open(&url, scheme, &tls).map_err(refused("connect"))?;
                Ok(Self::One(Source::Server(Box::new(client))))
            }
            Kind::Sentinel => sentinels(&url, scheme, tls, &sentinel_user),
            Kind::Cluster => {
                let (_, rest) = Scheme::split(&url)?;
                let nodes = nodes(scheme, rest);
                let mut builder = ClusterClient::builder(nodes.iter().map(String::as_str));
                builder = builder.tcp_settings(TcpSettings::default().set_nodelay(true));
                if scheme.is_tls {
                    builder = builder.certs(tls.clone().certificates());
                }
                let clients = nodes.iter().map(|node| open(node, scheme, &tls)).collect::<Result<_, _>>();
                let clients = clients.map_err(refused("connect"))?;
                Ok(Self::Cluster { nodes: clients, builder: Box::new(builder) })
            }
        }
    }
}

fn open(url: &str, scheme: Scheme, tls: &Tls) -> RedisResult<Client> {
    // A small command does not wait for the acknowledgement of the one before.
    let settings = TcpSettings::default().set_nodelay(true);
    let info = url.into_connection_info()?.set_tcp_settings(settings);
    // A user with no more rights than needed may not say what its library is called. Where nobody logs in, it
    // is the first that is answered, and so it is said why a certificate is refused.
    let redis = info.redis_settings().clone();
    let info = match redis.username() {
        Some(_) => info.set_redis_settings(redis.set_skip_set_lib_name()),
        None => info,
    };
    if scheme.is_tls { Client::build_with_tls(info, tls.clone().certificates()) } else { Client::open(info) }
}

/// `[user:password@]host:port,host:port,…[/]` as one URL for each node.
fn nodes(scheme: Scheme, rest: &str) -> Vec<String> {
    let rest = rest.trim_end_matches('/');
    let (user, hosts) = rest.rsplit_once('@').map_or(("", rest), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    hosts.split(',').map(|host| format!("{}://{user}{at}{host}", scheme.word)).collect()
}

const SENTINEL_FORM: &str = "write redis-sentinel://host:26379,host:26379/NAME[/DATABASE], where NAME is the \
                             primary's in the configuration of the sentinels; user and password before the first \
                             host are those of the servers, ?sentinel_password=… is for the sentinels; # is %23";

/// `[user:password@]host:port,host:port,…/NAME[/DATABASE]`, where the user is that of the servers.
fn sentinels(url: &str, scheme: Scheme, tls: Tls, sentinel_user: &str) -> Result<Address, BackendError> {
    let (_, rest) = Scheme::split(url)?;
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (user, place) = rest.rsplit_once('@').map_or(("", rest), |(user, place)| (user, place));
    let mut parts = place.trim_end_matches('/').split('/');
    let (hosts, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let database = parts.next().unwrap_or("0").parse().map_err(|_| wrong(SENTINEL_FORM))?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = |host: &str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c))
    };
    if !hosts.split(',').all(is_host)
        || name.is_empty()
        || !name.chars().all(is_name)
        || parts.next().is_some()
    {
        return Err(wrong(SENTINEL_FORM));
    }
    let node = |host: &str| {
        // Of `[::1]:26379` the last part is the port, of `[::1]` it is not.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
        open(&format!("{}://{sentinel_user}{host}{port}", scheme.word), scheme, &tls)
    };
    let nodes = hosts.split(',').map(node).collect::<Result<_, _>>().map_err(refused("connect"))?;
    let at = if user.is_empty() { "" } else { "@" };
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    let servers = Servers { scheme, user: format!("{user}{at}"), database, query, tls };
    // What the client library does not take is refused now, and not when the sentinels have answered.
    servers.at("127.0.0.1", 1).map_err(refused("connect"))?;
    let sentinels = Sentinels { nodes, primary: name.to_owned(), servers };
    Ok(Address::One(Source::Sentinels(Arc::new(sentinels))))
}

/// How to connect to a server that the sentinels name.
pub(crate) struct Servers {
    scheme: Scheme,
    /// With the `@` behind it.
    user: String,
    database: i64,
    query: String,
    tls: Tls,
}

impl Servers {
    pub(crate) fn at(&self, host: &str, port: u16) -> RedisResult<Client> {
        let Self { scheme, user, database, query, tls } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        open(&format!("{}://{user}{host}:{port}/{database}{query}", scheme.word), *scheme, tls)
    }

    pub(crate) fn database(&self) -> i64 {
        self.database
    }
}

/// Takes `ca`, `cert` and `key`, paths of PEM files, out of a URL's query, and the user of the sentinels, as
/// a URL has one.
fn options_of(url: &str, scheme: Scheme, mut tls: Tls) -> Result<(String, Tls, String), BackendError> {
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), tls, String::new())) };
    let (mut rest, mut cert, mut key) = (Vec::new(), None, None);
    let (mut sentinel_user, mut sentinel_password) = ("", None);
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("ca", path)) => tls.ca = Some(read("ca", path)?),
            Some(("cert", path)) => cert = Some(read("cert", path)?),
            Some(("key", path)) => key = Some(read("key", path)?),
            Some(("sentinel_user", user)) if scheme.kind == Kind::Sentinel => sentinel_user = user,
            Some(("sentinel_password", password)) if scheme.kind == Kind::Sentinel => {
                sentinel_password = Some(password);
            }
            Some((name, _)) if scheme.kind.options().contains(&name) => rest.push(pair),
            _ if scheme.kind == Kind::Sentinel => {
                return Err(wrong(&format!(
                    "the URL has an option that is none: there are ca, cert, key, protocol, sentinel_user and \
                     sentinel_password; {SENTINEL_FORM}"
                )));
            }
            // Perhaps a part of a password: it is not repeated.
            _ => {
                return Err(wrong(
                    "the URL has an option that is none: there are ca, cert, key and protocol, and for unix:// db, \
                     user and pass; write %3F for a ? in a password",
                ));
            }
        }
    }
    match (cert, key) {
        (Some(cert), Some(key)) => tls.client = Some((cert, key)),
        (None, None) => {}
        _ => return Err(wrong("the URL names only one of cert and key: a client certificate takes both")),
    }
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    let sentinel_user = match sentinel_password {
        Some(password) => format!("{sentinel_user}:{password}@"),
        None if sentinel_user.is_empty() => String::new(),
        None => return Err(wrong("the URL has sentinel_user and no sentinel_password")),
    };
    Ok((format!("{base}{query}"), tls, sentinel_user))
}

fn read(name: &str, path: &str) -> Result<Vec<u8>, BackendError> {
    if path.is_empty() {
        return Err(wrong(&format!("the URL names no file for {name}")));
    }
    let unread = |error| wrong(&format!("{path}, the file of {name}, cannot be read")).source(error);
    std::fs::read(Path::new(path)).map_err(unread)
}

fn wrong(context: &str) -> BackendError {
    BackendError::new(ErrorKind::Denied, "connect").context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_a_cluster_share_user_and_password() {
        let all = |url| Scheme::split(url).map(|(scheme, rest)| nodes(scheme, rest)).unwrap();
        assert_eq!(
            all("rediss-cluster://me:se@cret@a:1,b:2/"),
            ["rediss://me:se@cret@a:1", "rediss://me:se@cret@b:2"]
        );
        assert_eq!(all("redis-cluster://a:1"), ["redis://a:1"]);
    }

    #[test]
    fn certificates_are_read_from_the_files_that_the_url_names() {
        let path = std::env::temp_dir().join(format!("celeriac-address-{}", std::process::id()));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let url = format!("rediss://h:1/0?ca={0}&protocol=resp3&cert={0}&key={0}", path.display());
        let options_of = |url: &str| options_of(url, Scheme::split(url).unwrap().0, Tls::default());
        let (url, tls, _) = options_of(&url).unwrap();
        assert_eq!(url, "rediss://h:1/0?protocol=resp3");
        assert_eq!(
            (tls.ca.as_deref(), tls.client.is_some()),
            (Some(&b"-----BEGIN CERTIFICATE-----\n"[..]), true)
        );
        std::fs::remove_file(&path).unwrap();
        let missing = options_of("rediss://h?ca=/no/such/file").unwrap_err();
        let says = "/no/such/file, the file of ca, cannot be read";
        assert!(missing.to_string().contains(says), "{missing}");
        let half = options_of("rediss://h?key=/dev/null").unwrap_err();
        assert!(half.to_string().contains("takes both"), "{half}");
    }

    #[test]
    fn sentinels_and_servers_have_users_of_their_own() {
        let parse = |url: &str| match Address::parse(url, Tls::default()) {
            Ok(Address::One(Source::Sentinels(sentinels))) => sentinels,
            _ => panic!("{url} is of sentinels"),
        };
        let sentinels = parse(
            "redis-sentinel://me:se%40cret@a,b:1,[::1]/my.primary-1/3?protocol=resp3&sentinel_user=you&\
             sentinel_password=w%26tch",
        );
        let shown = |client: &Client| {
            let (info, place) =
                (client.get_connection_info(), client.get_connection_info().addr().to_string());
            let redis = info.redis_settings();
            let (user, password) = (redis.username().unwrap_or("-"), redis.password().unwrap_or("-"));
            format!("{user} {password} {place} {}", redis.db())
        };
        let nodes: Vec<String> = sentinels.nodes.iter().map(shown).collect();
        assert_eq!(nodes, ["you w&tch a:26379 0", "you w&tch b:1 0", "you w&tch ::1:26379 0"]);
        assert_eq!(sentinels.primary, "my.primary-1");
        assert_eq!(shown(&sentinels.servers.at("c", 6380).unwrap()), "me se@cret c:6380 3");
        assert_eq!(shown(&sentinels.servers.at("fe80::1", 1).unwrap()), "me se@cret fe80::1:1 3");
        let bare = parse("redis-sentinel://a/m");
        assert_eq!(shown(&bare.nodes[0]), "- - a:26379 0");
        assert_eq!(shown(&bare.servers.at("c", 1).unwrap()), "- - c:1 0");
    }

    #[track_caller]
    fn refuses(url: &str, tls: Tls, words: &str) {
        let error = Address::parse(url, tls).err().expect(words);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains(words), "{url}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{url}: {error}");
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        let (ca, none) =
            (|| Tls { ca: Some(b"-----BEGIN CERTIFICATE-----".to_vec()), client: None }, Tls::default);
        for url in ["redis://h", "redis-cluster://h:1", "unix:///run/redis.sock"] {
            refuses(url, ca(), "write rediss://");
        }
        refuses("redis://h?cert=/dev/null&key=/dev/null", none(), "write rediss://");
        for url in ["rediss://h?ca=/dev/null", "rediss-cluster://h:1?ca=/dev/null"] {
            refuses(url, none(), "given as ca has no certificate");
        }
        refuses("rediss://h?cert=/dev/null&key=/dev/null", none(), "given as cert has no certificate");
        let half = Tls { client: Some((ca().ca.unwrap(), ca().ca.unwrap())), ..none() };
        refuses("rediss://h", half, "given as key has no private key");
        refuses("rediss://h?ca=", none(), "names no file for ca");
        for url in ["redis://h?db=5", "redis://h?user=me&pass=s3cret", "redis-cluster://h:1?db=1"] {
            refuses(url, none(), "an option that is none");
        }
        assert!(Address::parse("unix:///run/s.sock?db=5&user=me&pass=s3cret", none()).is_ok());
        for url in
            ["rediss://h?cA=/dev/null", "redis://h?sslmode=require", "redis://me:s3cret?x@h", "redis://h?"]
        {
            refuses(url, none(), "an option that is none");
        }
        for url in [
            "redis-sentinel://h",
            "redis-sentinel://h/",
            "redis-sentinel:///m",
            "redis-sentinel://me:s3cret@h:1;redis-sentinel://h:2/m",
            "redis-sentinel://h:1,,h:2/m",
            "redis-sentinel://me:s3cret@h/m/1/2",
            "redis-sentinel://me:s3cret@h/m/one",
            "redis-sentinel://h/m n",
            "redis-sentinel://h#m",
        ] {
            refuses(url, none(), "write redis-sentinel://host:26379");
        }
        refuses("redis-sentinel://h/m?master=m&sentinel_password=s3cret", none(), "an option that is none");
        refuses("redis-sentinel://h/m?sentinel_user=s3cret", none(), "no sentinel_password");
        refuses("redis://h?sentinel_password=s3cret", none(), "an option that is none");
        refuses("redis-sentinel://h/m", ca(), "write rediss://");
        for url in [
            "",
            "h:6379",
            "sentinel://h/m",
            "redis+sentinel://h/m",
            "http://me:s3cret@h",
            "redis+tls://h",
            "redis-clusters://h",
        ] {
            refuses(url, none(), "begins like none of Redis");
        }
        refuses("rediss://h/#insecure", none(), "certificates are always checked");
        refuses("redis://me:#s3cret@h", none(), "write %23");
        assert!(Address::parse("redis://h/2?protocol=resp3", none()).is_ok());
        assert!(Address::parse("rediss://h", none()).is_ok());
    }
}
