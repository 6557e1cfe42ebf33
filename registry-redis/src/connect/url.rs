//! From a URL to what is to be connected to.

use super::cluster::Cluster;
use super::dial::Certificates;
use super::sentinel::Sentinel;
use super::{Address, Dialer, Topology};
use crate::options::{Ack, RedisOptions};
use registry_core::{Error, ErrorKind, Host, Result, Target};

/// The port of a server that names none.
const SERVER_PORT: u16 = 6379;

/// The port of a sentinel that names none.
const SENTINEL_PORT: u16 = 26379;

/// The prefix of a URL that names none.
const DEFAULT_PREFIX: &str = "registry";

/// What a URL and the options say.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) topology: Topology,
    pub(crate) dialer: Dialer,
    pub(crate) prefix: String,
    pub(crate) options: RedisOptions,
}

/// What stands before `://`.
#[derive(Clone, Copy)]
struct Scheme {
    kind: &'static str,
    is_secured: bool,
}

impl Setup {
    pub(crate) fn new(target: &Target, mut options: RedisOptions) -> Result<Self> {
        options.check()?;
        let scheme = Scheme::of(target)?;
        scheme.allow_options(target)?;
        if let Some(ack) = target.option("ack") {
            options.ack = parse_ack(ack)?;
        }
        let prefix = target.option("prefix").unwrap_or(DEFAULT_PREFIX);
        let legal = |c: char| !c.is_control() && c != '{' && c != '}';
        if prefix.is_empty() || !prefix.chars().all(legal) {
            return Err(invalid(
                "a prefix is not empty, and has no `{`, no `}` and no control characters",
            ));
        }
        let mut dialer = Dialer {
            user: target.user().map(str::to_owned),
            password: target.password().cloned(),
            database: 0,
            tls: scheme.is_secured.then(|| certificates(target)).transpose()?,
        };
        let topology = match scheme.kind {
            "redis" => {
                let [host] = target.hosts() else {
                    return Err(invalid(
                        "redis:// names exactly one host; several are redis+sentinel:// or redis+cluster://",
                    ));
                };
                dialer.database = parse_database(target.path())?;
                Topology::Standalone(address(host, SERVER_PORT))
            }
            "redis+sentinel" => {
                let (name, database) =
                    target.path().split_once('/').unwrap_or_else(|| (target.path(), ""));
                if name.is_empty() {
                    return Err(invalid(
                        "the path of redis+sentinel:// is what the sentinels call the primary, as in redis+sentinel://s1,s2,s3/mymaster",
                    ));
                }
                dialer.database = parse_database(database)?;
                let sentinels = addresses(target, SENTINEL_PORT)?;
                let (user, password) = match target.option("sentinel_login") {
                    Some("same") => (dialer.user.clone(), dialer.password.clone()),
                    Some(other) => {
                        let message = format!("option `sentinel_login` is `same`, got=`{other}`");
                        return Err(invalid(message));
                    }
                    None => {
                        let (user, password) = options.sentinel_login.clone().unzip();
                        (user.flatten(), password)
                    }
                };
                let asker = Dialer { user, password, database: 0, tls: dialer.tls.clone() };
                let deadline = options.connect_deadline / 2;
                let sentinel = Sentinel::new(sentinels, name.to_owned(), asker, deadline);
                Topology::Sentinel(sentinel)
            }
            _ => {
                if !target.path().is_empty() {
                    return Err(invalid(
                        "redis+cluster:// has no path: a cluster has one database",
                    ));
                }
                let turn = getrandom::u32().unwrap_or_default() as usize;
                Topology::Cluster(Cluster::new(addresses(target, SERVER_PORT)?, turn))
            }
        };
        Ok(Self { topology, dialer, prefix: prefix.to_owned(), options })
    }
}

impl Scheme {
    fn of(target: &Target) -> Result<Self> {
        let (kind, is_secured) = match target.scheme() {
            "redis" => ("redis", false),
            "rediss" => ("redis", true),
            "redis+sentinel" => ("redis+sentinel", false),
            "rediss+sentinel" => ("redis+sentinel", true),
            "redis+cluster" => ("redis+cluster", false),
            "rediss+cluster" => ("redis+cluster", true),
            other => {
                let message = format!(
                    "a Redis is named by redis://, redis+sentinel:// or redis+cluster://, or with TLS by rediss://, rediss+sentinel:// or rediss+cluster://, got=`{other}://`"
                );
                return Err(invalid(message));
            }
        };
        if is_secured && !cfg!(feature = "tls") {
            let message = format!(
                "`{}://` is not built in: add the feature `tls` of registry-redis (`redis-tls` of service-registry)",
                target.scheme()
            );
            return Err(invalid(message));
        }
        Ok(Self { kind, is_secured })
    }

    fn allow_options(self, target: &Target) -> Result<()> {
        let mut known = vec!["prefix", "ack"];
        if self.is_secured {
            known.extend(["ca", "cert", "key"]);
        }
        if self.kind == "redis+sentinel" {
            known.push("sentinel_login");
        }
        target.allow_options(&known)
    }
}

fn address(host: &Host, default: u16) -> Address {
    Address::new(host.name(), host.port().unwrap_or(default))
}

fn addresses(target: &Target, default: u16) -> Result<Vec<Address>> {
    if target.hosts().is_empty() {
        return Err(invalid(format!("{}:// names at least one host", target.scheme())));
    }
    Ok(target.hosts().iter().map(|host| address(host, default)).collect())
}

fn parse_database(path: &str) -> Result<u32> {
    match path {
        "" => Ok(0),
        path => path
            .parse()
            .map_err(|_| invalid(format!("a database is a number or left out, got=`{path}`"))),
    }
}

fn parse_ack(text: &str) -> Result<Ack> {
    let count = |text: &str| text.parse::<u32>().ok();
    let ack = match text.split_once(':') {
        None if text == "primary" => Some(Ack::Primary),
        None if text == "fsync" => Some(Ack::Fsync { replicas: 0 }),
        Some(("replicas", n)) => count(n).filter(|n| *n > 0).map(Ack::Replicas),
        Some(("fsync", n)) => count(n).map(|replicas| Ack::Fsync { replicas }),
        _ => None,
    };
    ack.ok_or_else(|| {
        invalid(format!(
            "option `ack` is `primary`, `replicas:N`, `fsync` or `fsync:N` (N replicas besides), got=`{text}`"
        ))
    })
}

/// [`Scheme::of`] has refused what needs them.
#[cfg(not(feature = "tls"))]
fn certificates(_: &Target) -> Result<Certificates> {
    Err(invalid("TLS is not built in"))
}

#[cfg(feature = "tls")]
fn certificates(target: &Target) -> Result<Certificates> {
    use redis::{Client, ClientTlsConfig, TlsCertificates};
    use rustls::crypto::{CryptoProvider, ring};

    // Where the program has chosen no cryptography, the client could not choose either, and panics.
    if CryptoProvider::get_default().is_none() {
        ring::default_provider().install_default().ok(); // another thread may have been faster
    }
    let files = registry_core::TlsFiles::read(target)?;
    let client_tls =
        files.identity.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    let certificates = TlsCertificates { client_tls, root_cert: files.ca };
    // What is in them is read at each connection: what is wrong with that is no matter of a server.
    Client::build_with_tls("rediss://localhost", certificates.clone()).map_err(|error| {
        invalid("what the options `ca`, `cert` and `key` name is no such thing").with_source(error)
    })?;
    Ok(certificates)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(url: &str) -> Result<Setup> {
        Setup::new(&url.parse().unwrap(), RedisOptions::default())
    }

    #[test]
    fn a_url_names_a_server_and_a_prefix() {
        let Setup { topology, dialer, prefix, .. } =
            setup("redis://app:s3cret@[::1]:7000/2?prefix=prod%2Feu").unwrap();
        assert!(matches!(topology, Topology::Standalone(at) if at.to_string() == "[::1]:7000"));
        assert_eq!((dialer.user.as_deref(), dialer.database), (Some("app"), 2));
        assert_eq!(dialer.password.as_ref().unwrap().reveal(), "s3cret");
        assert_eq!(prefix, "prod/eu");
        assert!(!format!("{dialer:?}").contains("s3cret"));

        let Setup { topology, dialer, prefix, options } = setup("redis://h").unwrap();
        assert!(matches!(topology, Topology::Standalone(at) if at.to_string() == "h:6379"));
        assert_eq!((dialer.database, prefix.as_str()), (0, "registry"));
        assert_eq!(options.ack, Ack::Primary);
    }

    #[test]
    fn a_url_names_sentinels_or_nodes() {
        let of_sentinel = setup("redis+sentinel://s1,s2:7/mymaster/3").unwrap();
        assert_eq!(of_sentinel.dialer.database, 3);
        let told = format!("{:?}", of_sentinel.topology);
        assert!(told.contains("[s1:26379, s2:7]") && told.contains("mymaster"), "{told}");
        let of_cluster = setup("redis+cluster://h1:7000,h2").unwrap();
        let told = format!("{:?}", of_cluster.topology);
        assert!(told.contains("[h1:7000, h2:6379]"), "{told}");
    }

    #[test]
    fn who_must_have_a_write_is_an_option() {
        let ack =
            |text: &str| setup(&format!("redis://h?ack={text}")).map(|setup| setup.options.ack);
        assert_eq!(ack("primary").unwrap(), Ack::Primary);
        assert_eq!(ack("replicas:2").unwrap(), Ack::Replicas(2));
        assert_eq!(ack("fsync").unwrap(), Ack::Fsync { replicas: 0 });
        assert_eq!(ack("fsync:1").unwrap(), Ack::Fsync { replicas: 1 });
        for bad in ["", "replicas", "replicas:0", "replicas:x", "fsync:-1", "all"] {
            assert_eq!(ack(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn what_it_cannot_serve_is_refused() {
        let bad = [
            "etcd://h",
            "redis+tls://h",
            "redis://",
            "redis://h1,h2",
            "redis://h/x",
            "redis://h/-1",
            "redis://h/0/1",
            "redis://h?prefix=",
            "redis://h?prefix=a%7Bb",
            "redis://h?prefix=a%0A",
            "redis://h?prefx=a",
            "redis://h?ca=/x.pem",
            "redis+sentinel:///mymaster",
            "redis+sentinel://s1,s2",
            "redis+sentinel://s1/mymaster/x",
            "redis+sentinel://s1/mymaster?sentinel_login=other",
            "redis://h?sentinel_login=same",
            "redis+cluster://",
            "redis+cluster://h/1",
        ];
        for bad in bad {
            assert_eq!(setup(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn what_looks_like_a_certificate_and_is_none_is_invalid_and_not_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n")
            .unwrap();
        let error = setup(&format!("rediss://h?ca={}", path.display())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_that_is_not_built_in_is_said_with_the_feature_to_add() {
        let error = setup("rediss://h").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("feature `tls`"), "{error}");
    }
}
