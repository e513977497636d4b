//! URLs and certificates: where Redis is, and how to show who we are.

use std::path::Path;

use celeriac_backends::{BackendError, ErrorKind};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::TcpSettings;
use redis::{Client, ClientTlsConfig, IntoConnectionInfo, TlsCertificates};

use crate::error::refused;

/// Where Redis is.
pub(crate) enum Address {
    /// One server.
    One(Box<Client>),
    /// A Cluster: some of its nodes, each also as a server by itself.
    Cluster { nodes: Vec<Client>, builder: Box<ClusterClientBuilder> },
}

/// Certificates in PEM form.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    fn certificates(self) -> TlsCertificates {
        TlsCertificates {
            client_tls: self
                .client
                .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            root_cert: self.ca,
        }
    }
}

impl Address {
    /// Reads a URL; see [`crate::RedisBackend::connect`].
    pub(crate) fn parse(url: &str, tls: Tls) -> Result<Self, BackendError> {
        let (url, tls) = certificates_of(url, tls)?;
        let nodes = match url.split_once("-cluster://") {
            Some((scheme @ ("redis" | "rediss"), rest)) => cluster_nodes(scheme, rest),
            _ => {
                let client = open(&url, &tls)?;
                return Ok(Self::One(Box::new(client)));
            }
        };
        let mut builder = ClusterClient::builder(nodes.iter().map(String::as_str));
        builder = builder.tcp_settings(TcpSettings::default().set_nodelay(true));
        if url.starts_with("rediss") {
            builder = builder.certs(tls.clone().certificates());
        }
        let clients = nodes.iter().map(|node| open(node, &tls)).collect::<Result<_, _>>()?;
        Ok(Self::Cluster { nodes: clients, builder: Box::new(builder) })
    }
}

fn open(url: &str, tls: &Tls) -> Result<Client, BackendError> {
    // A small command does not wait for the acknowledgement of the one before.
    let settings = TcpSettings::default().set_nodelay(true);
    let info = url.into_connection_info().map_err(refused("connect"))?.set_tcp_settings(settings);
    let client = if url.starts_with("rediss") {
        Client::build_with_tls(info, tls.clone().certificates())
    } else {
        Client::open(info)
    };
    client.map_err(refused("connect"))
}

/// `[user:password@]host:port,host:port,…[/]` as one URL for each node.
fn cluster_nodes(scheme: &str, rest: &str) -> Vec<String> {
    let rest = rest.trim_end_matches('/');
    let (user, hosts) = rest.rsplit_once('@').map_or(("", rest), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    hosts.split(',').map(|host| format!("{scheme}://{user}{at}{host}")).collect()
}

/// Takes `ca`, `cert` and `key`, paths of PEM files, out of a URL's query.
fn certificates_of(url: &str, mut tls: Tls) -> Result<(String, Tls), BackendError> {
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), tls)) };
    let (mut rest, mut cert, mut key) = (Vec::new(), None, None);
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("ca", path)) => tls.ca = Some(read(path)?),
            Some(("cert", path)) => cert = Some(read(path)?),
            Some(("key", path)) => key = Some(read(path)?),
            _ => rest.push(pair),
        }
    }
    match (cert, key) {
        (Some(cert), Some(key)) => tls.client = Some((cert, key)),
        (None, None) => {}
        _ => return Err(wrong("the URL names only one of cert and key: a client certificate takes both")),
    }
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Ok((format!("{base}{query}"), tls))
}

fn read(path: &str) -> Result<Vec<u8>, BackendError> {
    std::fs::read(Path::new(path)).map_err(|error| wrong(&format!("{path} cannot be read")).source(error))
}

fn wrong(context: &str) -> BackendError {
    BackendError::new(ErrorKind::Denied, "connect").context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_a_cluster_share_user_and_password() {
        let nodes = cluster_nodes("rediss", "me:se@cret@a:1,b:2/");
        assert_eq!(nodes, ["rediss://me:se@cret@a:1", "rediss://me:se@cret@b:2"]);
        assert_eq!(cluster_nodes("redis", "a:1"), ["redis://a:1"]);
    }

    #[test]
    fn certificates_are_read_from_the_files_that_the_url_names() {
        let path = std::env::temp_dir().join(format!("celeriac-address-{}", std::process::id()));
        std::fs::write(&path, "PEM").unwrap();
        let url = format!("rediss://h:1/0?ca={0}&protocol=resp3&cert={0}&key={0}", path.display());
        let (url, tls) = certificates_of(&url, Tls::default()).unwrap();
        assert_eq!(url, "rediss://h:1/0?protocol=resp3");
        assert_eq!((tls.ca.as_deref(), tls.client.is_some()), (Some(&b"PEM"[..]), true));
        std::fs::remove_file(&path).unwrap();
        let missing = certificates_of("rediss://h?ca=/no/such/file", Tls::default()).unwrap_err();
        assert!(missing.to_string().contains("/no/such/file cannot be read"), "{missing}");
        let half = certificates_of("rediss://h?key=/dev/null", Tls::default()).unwrap_err();
        assert!(half.to_string().contains("takes both"), "{half}");
    }
}
