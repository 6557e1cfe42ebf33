//! The section `Etcd`, for servers and clients.

use super::field::{invalid, literal, stated, wrong};
use crate::{Result, ServiceName, Target};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;

/// go-zero's `EtcdConf`, from `core/discov/config.go`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct EtcdSection {
    hosts: Option<Vec<String>>,
    key: Option<String>,
    id: Option<i64>,
    user: Option<String>,
    pass: Option<String>,
    #[serde(rename = "certfile")]
    cert_file: Option<String>,
    #[serde(rename = "certkeyfile")]
    cert_key_file: Option<String>,
    #[serde(rename = "cacertfile")]
    ca_cert_file: Option<String>,
    #[serde(rename = "insecureskipverify")]
    insecure_skip_verify: Option<bool>,
}

impl EtcdSection {
    /// The registry and the service, if the section names both.
    ///
    /// # Errors
    ///
    /// `Invalid` if it names only one, or they or the way there cannot be used.
    pub(super) fn service(&self) -> Result<Option<(Target, ServiceName)>> {
        let hosts = self.hosts.as_deref().unwrap_or_default();
        let key = match (hosts, self.key()?) {
            ([], None) => return Ok(None),
            ([], Some(_)) => {
                return Err(invalid("`Etcd.Hosts` is missing: set it beside `Etcd.Key`"));
            }
            (_, None) => return Err(invalid("`Etcd.Key` is missing: set it beside `Etcd.Hosts`")),
            (_, Some(key)) => key,
        };
        let (slashes, service) =
            ServiceName::from_key(key).map_err(|error| wrong("Etcd.Key", error))?;
        let (scheme, files) = self.tls()?;
        let (login, hosts) = (self.login()?, joined(hosts)?);
        let url = format!("{scheme}://{login}{hosts}/{slashes}?layout=go-zero{files}");
        let target = url.parse().map_err(|error| wrong("Etcd.Hosts", error))?;
        Ok(Some((target, service)))
    }

    pub(super) fn key(&self) -> Result<Option<&str>> {
        literal("Etcd.Key", self.key.as_ref())
    }

    /// The id to register under, if one is configured.
    pub(super) fn id(&self) -> Option<i64> {
        self.id.filter(|id| *id > 0)
    }

    fn login(&self) -> Result<String> {
        let user = literal("Etcd.User", self.user.as_ref())?;
        let pass = literal("Etcd.Pass", self.pass.as_ref())?;
        Ok(user
            .zip(pass)
            .map_or_else(String::new, |(user, pass)| format!("{}:{}@", encode(user), encode(pass))))
    }

    /// The scheme, and the options that name the files for it.
    fn tls(&self) -> Result<(&'static str, String)> {
        if self.insecure_skip_verify == Some(true) {
            return Err(invalid(
                "`Etcd.InsecureSkipVerify` is not supported: name whom to trust in `CACertFile`",
            ));
        }
        let cert = stated(self.cert_file.as_ref());
        let key = stated(self.cert_key_file.as_ref());
        if cert.is_some() != key.is_some() {
            return Err(invalid("set both `Etcd.CertFile` and `Etcd.CertKeyFile`, or neither"));
        }
        let ca = stated(self.ca_cert_file.as_ref());
        let options = [("ca", ca), ("cert", cert), ("key", key)].map(|(option, path)| {
            path.map_or_else(String::new, |path| format!("&{option}={}", encode(path)))
        });
        let options = options.concat();
        Ok((if options.is_empty() { "etcd" } else { "etcds" }, options))
    }
}

/// The hosts as a URL has them. One with a path would be read as something else there.
fn joined(hosts: &[String]) -> Result<String> {
    // etcd's client in Go takes them with a scheme, too.
    let hosts = hosts.iter().map(|host| host.strip_prefix("http://").unwrap_or(host));
    let hosts: Vec<&str> = hosts.collect();
    if hosts.iter().any(|host| host.contains(['/', '?', '#', '@'])) {
        return Err(invalid(
            "`Etcd.Hosts` are each `host` or `host:port`; TLS comes by `CACertFile`",
        ));
    }
    Ok(hosts.join(","))
}

fn encode(part: &str) -> PercentEncode<'_> {
    utf8_percent_encode(part, NON_ALPHANUMERIC)
}
