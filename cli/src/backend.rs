//! From a URL to a backend. URLs are read and opened here and nowhere else, so that no password gets out.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use celeriac_backends::Backend;
use celeriac_runtime::App;

use crate::args::GlobalArgs;
use crate::exit::Stop;

/// Where a backend is. It shows itself without user, password and options.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url(String);

/// What a URL is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory,
    Redis,
}

const WRITE: &str = "redis://localhost:6379, rediss://…, unix:///run/redis.sock, redis-cluster://…, \
                     redis-sentinel://… or memory:";

/// The text without what may be users, passwords and options in URLs: people put them where they do not
/// belong.
pub(crate) fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| c.is_whitespace() || c == '\'' || c == '"') {
        match (word.split_once("://"), word.rsplit_once('@')) {
            (Some((scheme, rest)), Some((_, place))) if rest.contains('@') => {
                out.extend([scheme, "://…@", place]);
            }
            (Some((place, options)), _) if options.contains('?') => {
                let (rest, _) = options.split_once('?').unwrap_or_default();
                out.extend([place, "://", rest, "?…"]);
                out.extend(word.chars().last().filter(|c| c.is_whitespace() || matches!(c, '\'' | '"')));
            }
            _ => out.push_str(word),
        }
    }
    out
}

/// The app where `run` runs a canvas: on the backend of the URL, else where the app itself is.
pub(crate) async fn anywhere(app: &App, global: &GlobalArgs) -> Result<App, Stop> {
    match global.url() {
        None => Ok(app.clone()),
        Some(url) => match url.kind()? {
            Kind::Memory => Ok(app.in_memory()),
            Kind::Redis => Ok(app.on(open(url, global).await?)),
        },
    }
}

/// The app on a backend that it shares with other processes.
pub(crate) async fn shared(app: &App, global: &GlobalArgs) -> Result<App, Stop> {
    match global.url() {
        None if app.has_backend() => Ok(app.on(app.backend().clone())),
        None => Err(Stop::usage(
            "this command needs a backend that processes share, and this app keeps its runs in memory; write --url \
             redis://localhost:6379, or set CELERIAC_URL",
        )),
        Some(url) => match url.kind()? {
            Kind::Memory => Err(Stop::usage(
                "memory: ends with the process that uses it, so only run can; write --url redis://localhost:6379",
            )),
            Kind::Redis => Ok(app.on(open(url, global).await?)),
        },
    }
}

#[cfg(feature = "redis")]
async fn open(url: &Url, global: &GlobalArgs) -> Result<Arc<dyn Backend>, Stop> {
    let mut builder = celeriac_redis::RedisBackend::builder(&url.0);
    if let Some(prefix) = global.prefix() {
        builder = builder.prefix(prefix);
    }
    match builder.connect().await {
        Ok(backend) => Ok(Arc::new(backend)),
        Err(error) => {
            let Stop { exit, message } = error.into();
            Err(Stop::new(exit, format!("{url}: {}", url.scrub(&message))))
        }
    }
}

#[cfg(not(feature = "redis"))]
async fn open(url: &Url, _: &GlobalArgs) -> Result<Arc<dyn Backend>, Stop> {
    Err(Stop::usage(format!("{url}: this program was built without the feature redis")))
}

impl Url {
    fn kind(&self) -> Result<Kind, Stop> {
        let scheme = self.0.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "memory" => Ok(Kind::Memory),
            // The backend knows which there are, and says so.
            _ if !scheme.contains('/')
                && ["redis", "valkey", "sentinel", "unix"].iter().any(|word| scheme.contains(word)) =>
            {
                Ok(Kind::Redis)
            }
            _ => Err(Stop::usage(format!("--url: this begins like no backend; write {WRITE}"))),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The user, the password, and the options, which may have them as well.
    #[cfg(any(feature = "redis", test))]
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
        let options = self.0.split_once('?').map_or("", |(_, options)| options);
        let password = user.split_once(':').map_or("", |(_, password)| password);
        let values = options.split('&').filter_map(|option| option.split_once('='));
        let values = values.filter(|(name, _)| name.contains("pass")).map(|(_, value)| value);
        [user, password, options].into_iter().chain(values).filter(|secret| !secret.is_empty())
    }

    /// The text without what is secret in this URL.
    #[cfg(any(feature = "redis", test))]
    fn scrub(&self, text: &str) -> String {
        self.secrets().fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

impl FromStr for Url {
    type Err = Infallible;
    /// Takes everything: an error of the command line's own would show the text.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str("the URL") };
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        write!(f, "{scheme}://{}", place.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_itself_without_what_is_secret() {
        #[track_caller]
        fn check(url: &str, expect: &str) {
            let url: Url = url.parse().unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (expect.to_owned(), expect.to_owned()));
            assert!(!url.scrub(&url.0).contains("s3cret"), "{}", url.scrub(&url.0));
        }
        check("redis://localhost:6379/2", "redis://localhost:6379/2");
        check("redis://:s3cret@host", "redis://host");
        check("rediss://me:s3cret@host:1/0?protocol=resp3", "rediss://host:1/0");
        check("redis://me:s3cret@p@ss/w@host", "redis://host");
        check(
            "redis-sentinel://me:s3cret@a:1,b:2/m/3?sentinel_password=s3cret",
            "redis-sentinel://a:1,b:2/m/3",
        );
        check("unix:///run/redis.sock?user=me&pass=s3cret", "unix:///run/redis.sock");
        assert_eq!(without_users("no 'redis://me:s3cret@host/1' at a@b"), "no 'redis://…@host/1' at a@b");
        let options = "no 'redis-sentinel://a/m?sentinel_password=s3cret' is";
        assert_eq!(without_users(options), "no 'redis-sentinel://a/m?…' is");
        assert_eq!(Url("redis:/me:s3cret".into()).to_string(), "the URL");
    }
}
