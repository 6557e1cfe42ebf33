//! The connection settings from a URL and options.

use super::cluster::Cluster;
use super::dial::Dialer;
use super::sentinel::Sentinel;
use super::standalone::Standalone;
use super::topology::Topology;
use crate::options::{Ack, RedisOptions};
use registry_core::{Error, ErrorKind, Result, Target};
use std::sync::Arc;
use std::time::Duration;

/// The default prefix.
const DEFAULT_PREFIX: &str = "registry";

/// The validated settings of a URL and its options.
#[derive(Debug)]
pub(crate) struct ConnectConfig {
    pub(crate) topology: Box<dyn Topology>,
    pub(crate) dialer: Dialer,
    pub(crate) prefix: String,
    pub(crate) options: RedisOptions,
    /// How long a watch waits for a silent server.
    pub(crate) silence_timeout: Duration,
}

/// The scheme of a URL.
#[derive(Clone, Copy)]
struct Scheme {
    /// The scheme without TLS.
    plain: &'static str,
    uses_tls: bool,
}

impl ConnectConfig {
    pub(crate) fn new(target: &Target, mut options: RedisOptions) -> Result<Self> {
        options.check()?;
        let scheme = Scheme::of(target)?;
        scheme.allow_options(target)?;
        if let Some(ack) = target.option("ack") {
            options.ack = parse_ack(ack)?;
        }
        match target.option("access") {
            None => {}
            Some("read") => options.is_reader = true,
            Some("write") => options.is_reader = false,
            Some(other) => {
                let message = format!("option `access` must be `read` or `write`, got=`{other}`");
                return Err(invalid(message));
            }
        }
        let prefix = target.option("prefix").unwrap_or(DEFAULT_PREFIX);
        let legal = |c: char| !c.is_control() && c != '{' && c != '}';
        if prefix.is_empty() || !prefix.chars().all(legal) {
            return Err(invalid(
                "option `prefix` must not be empty or contain `{`, `}` or control characters",
            ));
        }
        let mut dialer = Dialer {
            user: target.user().map(str::to_owned),
            password: target.password().cloned(),
            database: 0,
            tls: scheme.uses_tls.then(|| Arc::new(target.clone())),
        };
        let topology: Box<dyn Topology> = match scheme.plain {
            "redis" => {
                let (standalone, database) = Standalone::parse(target)?;
                dialer.database = database;
                Box::new(standalone)
            }
            "redis+sentinel" => {
                let (sentinel, database) = Sentinel::parse(target, &options, &dialer)?;
                dialer.database = database;
                Box::new(sentinel)
            }
            _ => Box::new(Cluster::parse(target)?),
        };
        let silence_timeout = options.silence_timeout(target);
        Ok(Self { topology, dialer, prefix: prefix.to_owned(), options, silence_timeout })
    }
}

impl Scheme {
    fn of(target: &Target) -> Result<Self> {
        let (plain, uses_tls) = match target.scheme() {
            "redis" => ("redis", false),
            "rediss" => ("redis", true),
            "redis+sentinel" => ("redis+sentinel", false),
            "rediss+sentinel" => ("redis+sentinel", true),
            "redis+cluster" => ("redis+cluster", false),
            "rediss+cluster" => ("redis+cluster", true),
            other => {
                let message = format!(
                    "a Redis URL begins with redis://, redis+sentinel:// or redis+cluster://, or with TLS with rediss://, rediss+sentinel:// or rediss+cluster://, got=`{other}://`"
                );
                return Err(invalid(message));
            }
        };
        if uses_tls && !cfg!(feature = "tls") {
            let message = format!(
                "`{}://` is not built in: add the feature `tls` of registry-redis (`tls` of service-registry)",
                target.scheme()
            );
            return Err(invalid(message));
        }
        Ok(Self { plain, uses_tls })
    }

    fn allow_options(self, target: &Target) -> Result<()> {
        let mut known = vec!["prefix", "ack", "access"];
        if self.uses_tls {
            known.extend(["ca", "cert", "key"]);
            if target.option("cert").is_some() != target.option("key").is_some() {
                return Err(invalid(
                    "the URL has only one of `cert` and `key`: a client certificate needs both",
                ));
            }
        }
        if self.plain == "redis+sentinel" {
            known.push("sentinel_login");
        }
        target.allow_options(&known)
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
            "option `ack` must be `primary`, `replicas:N`, `fsync` or `fsync:N` (with N replicas), got=`{text}`"
        ))
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Result<ConnectConfig> {
        ConnectConfig::new(&url.parse().unwrap(), RedisOptions::default())
    }

    #[test]
    fn a_url_names_a_server_and_a_prefix() {
        let ConnectConfig { topology, dialer, prefix, .. } =
            config("redis://app:s3cret@[::1]:7000/2?prefix=prod%2Feu").unwrap();
        assert_eq!(topology.to_string(), "[::1]:7000");
        assert_eq!((dialer.user.as_deref(), dialer.database), (Some("app"), 2));
        assert_eq!(dialer.password.as_ref().unwrap().reveal(), "s3cret");
        assert_eq!(prefix, "prod/eu");
        assert!(!format!("{dialer:?}").contains("s3cret"));

        let ConnectConfig { topology, dialer, prefix, options, silence_timeout } =
            config("redis://h").unwrap();
        assert_eq!(silence_timeout, registry_core::silence_timeout(None));
        assert_eq!(topology.to_string(), "h:6379");
        assert_eq!((dialer.database, prefix.as_str()), (0, "registry"));
        assert_eq!(options.ack, Ack::Primary);
    }

    #[test]
    fn a_url_names_sentinels_or_nodes() {
        let of_sentinel = config("redis+sentinel://s1,s2:7/mymaster/3").unwrap();
        assert_eq!(of_sentinel.dialer.database, 3);
        assert_eq!(of_sentinel.topology.to_string(), "s1:26379,s2:7/mymaster");
        let of_cluster = config("redis+cluster://h1:7000,h2").unwrap();
        assert_eq!(of_cluster.topology.to_string(), "h1:7000,h2:6379");
    }

    #[test]
    fn ack_option_is_parsed() {
        let ack =
            |text: &str| config(&format!("redis://h?ack={text}")).map(|config| config.options.ack);
        assert_eq!(ack("primary").unwrap(), Ack::Primary);
        assert_eq!(ack("replicas:2").unwrap(), Ack::Replicas(2));
        assert_eq!(ack("fsync").unwrap(), Ack::Fsync { replicas: 0 });
        assert_eq!(ack("fsync:1").unwrap(), Ack::Fsync { replicas: 1 });
        for bad in ["", "replicas", "replicas:0", "replicas:x", "fsync:-1", "all"] {
            assert_eq!(ack(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn unsupported_urls_are_refused() {
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
            "redis://h?access=all",
            "redis+sentinel:///mymaster",
            "redis+sentinel://s1,s2",
            "redis+sentinel://s1/mymaster/x",
            "redis+sentinel://s1/mymaster?sentinel_login=other",
            "redis://h?sentinel_login=same",
            "redis+cluster://",
            "redis+cluster://h/1",
        ];
        for bad in bad {
            assert_eq!(config(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn missing_tls_feature_is_named_in_the_error() {
        let error = config("rediss://h").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("feature `tls`"), "{error}");
    }
}
