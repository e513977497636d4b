//! Certificates for servers and clients that speak TLS.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// An authority of its own, and a certificate of a server and of a client that it signed; PEM files in
/// one directory. The server's is for `127.0.0.1` and `localhost`.
#[derive(Debug, Clone)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes them and writes them into a directory that exists. Made twice, they do not trust each other.
    ///
    /// # Panics
    ///
    /// When the directory cannot be written.
    pub fn make(directory: &Path) -> Self {
        let made = Self { directory: directory.to_owned() };
        let mut params = named("celeriac test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, key()).expect("the parameters are good");
        write(&made.ca(), &authority.pem());

        let mut server = named("celeriac test server", &["127.0.0.1", "localhost"]);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        made.sign(server, &authority, &made.server_certificate(), &made.server_key());

        let mut client = named("celeriac test client", &[]);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        made.sign(client.clone(), &authority, &made.client_certificate(), &made.client_key());
        client.not_before = rcgen::date_time_ymd(2000, 1, 1);
        client.not_after = rcgen::date_time_ymd(2001, 1, 1);
        made.sign(client, &authority, &made.expired_certificate(), &made.expired_key());
        made
    }

    /// The authority's certificate: what the other side has to trust.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The server's certificate.
    pub fn server_certificate(&self) -> PathBuf {
        self.directory.join("server.pem")
    }

    /// The server's private key.
    pub fn server_key(&self) -> PathBuf {
        self.directory.join("server.key.pem")
    }

    /// The client's certificate.
    pub fn client_certificate(&self) -> PathBuf {
        self.directory.join("client.pem")
    }

    /// The client's private key.
    pub fn client_key(&self) -> PathBuf {
        self.directory.join("client.key.pem")
    }

    /// Another certificate of the client, which was good until 2001.
    pub fn expired_certificate(&self) -> PathBuf {
        self.directory.join("expired.pem")
    }

    /// Its private key.
    pub fn expired_key(&self) -> PathBuf {
        self.directory.join("expired.key.pem")
    }

    fn sign(
        &self,
        params: CertificateParams,
        authority: &CertifiedIssuer<'static, KeyPair>,
        certificate: &Path,
        private: &Path,
    ) {
        let pair = key();
        let signed = params.signed_by(&pair, authority).expect("the parameters are good");
        write(certificate, &signed.pem());
        write(private, &pair.serialize_pem());
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has random numbers")
}

fn named(name: &str, addresses: &[&str]) -> CertificateParams {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(addresses).expect("the names are ASCII");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
