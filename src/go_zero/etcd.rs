//! The section `Etcd` of servers and clients.

use super::section::Section;
use super::{invalid, refused};
use crate::store::Target;
use crate::{Error, Result, ServiceName};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// go-zero's `EtcdConf`, from `core/discov/config.go`.
pub(super) struct EtcdSection {
    hosts: Vec<String>,
    key: Option<String>,
    id: Option<i64>,
    /// The user and the password.
    login: Option<(String, String)>,
    /// The paths of the certificate, its key and the trusted authority.
    files: Option<[String; 3]>,
    insecure_skip_verify: bool,
}

/// The fields that name TLS files, and the corresponding URL options.
const FILES: [(&str, &str); 3] =
    [("CertFile", "cert"), ("CertKeyFile", "key"), ("CACertFile", "ca")];

impl EtcdSection {
    /// Reads the section in `config`.
    ///
    /// # Errors
    ///
    /// `Invalid` if go-zero refuses the section, or if only some of the TLS files are set: go-zero would not use TLS
    /// then.
    pub(super) fn of(config: &Section) -> Result<Option<Self>> {
        let Some(etcd) = config.section("Etcd", "Etcd.")? else { return Ok(None) };
        let key = etcd.text("Key")?.filter(|key| !key.is_empty()).map(str::to_owned);
        let hosts = etcd.texts("Hosts")?.ok_or_else(|| match key {
            Some(_) => missing_hosts(),
            None => etcd.field_error("Hosts", "is missing: set it, or leave out `Etcd`"),
        })?;
        if etcd.text("Key")?.is_none() {
            return Err(missing_key());
        }
        let (user, pass) = (etcd.non_empty_text("User")?, etcd.non_empty_text("Pass")?);
        Ok(Some(Self {
            hosts,
            key,
            id: etcd.integer("ID")?.filter(|id| *id > 0),
            login: user.map(str::to_owned).zip(pass.map(str::to_owned)),
            files: files(&etcd)?,
            insecure_skip_verify: etcd.flag("InsecureSkipVerify")?.unwrap_or(false),
        }))
    }

    /// Returns the registry and the service; `None` if the section names neither. `skips_verification` confirms
    /// `InsecureSkipVerify`.
    ///
    /// # Errors
    ///
    /// `Invalid` if the section names only one of them, or if a field of it cannot be used.
    pub(super) fn place(&self, skips_verification: bool) -> Result<Option<(Target, ServiceName)>> {
        let key = match (self.hosts.as_slice(), &self.key) {
            ([], None) => return Ok(None),
            ([], Some(_)) => return Err(missing_hosts()),
            (_, None) => return Err(missing_key()),
            (_, Some(key)) => key,
        };
        let (slashes, service) =
            ServiceName::from_key(key).map_err(|error| refused("Etcd.Key", error))?;
        let (hosts, protocol) = joined(&self.hosts)?;
        let (scheme, options) = self.tls(protocol, skips_verification)?;
        let login = self
            .login
            .as_ref()
            .map_or_else(String::new, |(user, pass)| format!("{}:{}@", encode(user), encode(pass)));
        let url = format!("{scheme}://{login}{hosts}/{slashes}?layout=go-zero{options}");
        let target = url.parse().map_err(|error| refused("Etcd.Hosts", error))?;
        Ok(Some((target, service)))
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns the configured instance id.
    pub(super) fn id(&self) -> Option<i64> {
        self.id
    }

    /// Returns the URL scheme and the URL options for TLS.
    fn tls(
        &self,
        protocol: Option<Protocol>,
        skips_verification: bool,
    ) -> Result<(&'static str, String)> {
        let Some(files) = &self.files else {
            let is_https = protocol == Some(Protocol::Https);
            return Ok((if is_https { "etcds" } else { "etcd" }, String::new()));
        };
        if protocol == Some(Protocol::Http) {
            return Err(invalid(
                "`Etcd.Hosts` has `http://` although TLS files are set, and go-zero would not use TLS: leave \
                 out `http://` or the files",
            ));
        }
        if self.insecure_skip_verify && !skips_verification {
            return Err(invalid(
                "`Etcd.InsecureSkipVerify` disables the verification of etcd's identity: to confirm, set \
                 `ServiceRegistry.InsecureSkipVerify` too",
            ));
        }
        let options = FILES.iter().zip(files);
        let options = options.map(|((_, option), path)| format!("&{option}={}", encode(path)));
        let verify = if self.insecure_skip_verify { "&verify=none" } else { "" };
        Ok(("etcds", options.chain([verify.to_owned()]).collect()))
    }
}

fn missing_hosts() -> Error {
    invalid("`Etcd.Hosts` is missing: set it beside `Etcd.Key`")
}

fn missing_key() -> Error {
    invalid("`Etcd.Key` is missing: set it beside `Etcd.Hosts`")
}

/// Returns the paths of the TLS files, if they are set.
fn files(etcd: &Section) -> Result<Option<[String; 3]>> {
    let [cert, key, ca] = FILES.map(|(field, _)| etcd.non_empty_text(field));
    let [cert, key, ca] = [cert?, key?, ca?];
    let is_there = |(field, _): (&str, &str)| Ok(etcd.find(field)?.is_some());
    let is_there: Vec<bool> = FILES.into_iter().map(is_there).collect::<Result<_>>()?;
    match (cert, key, ca) {
        (Some(cert), Some(key), Some(ca)) => {
            Ok(Some([cert.to_owned(), key.to_owned(), ca.to_owned()]))
        }
        (None, None, None) if is_there.iter().all(|there| *there == is_there[0]) => Ok(None),
        _ => Err(invalid(
            "only some of `Etcd.CertFile`, `Etcd.CertKeyFile` and `Etcd.CACertFile` are set, and go-zero would not \
             use TLS: set all three or none. For TLS without a client certificate use `ServiceRegistry.Url`, such as \
             `etcds://host?layout=go-zero&ca=ca.pem`",
        )),
    }
}

/// The protocol prefix of a host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Https,
}

/// Returns the hosts joined for a URL, and their common protocol.
fn joined(hosts: &[String]) -> Result<(String, Option<Protocol>)> {
    let split = |host: &String| {
        let (protocol, name) = if let Some(name) = host.strip_prefix("http://") {
            (Some(Protocol::Http), name)
        } else if let Some(name) = host.strip_prefix("https://") {
            (Some(Protocol::Https), name)
        } else {
            (None, host.as_str())
        };
        // These characters would change the structure of the URL.
        if name.is_empty() || name.contains(['/', '?', '#', '@', ',']) {
            return Err(invalid(
                "`Etcd.Hosts` has an entry that is not `[http://|https://]host[:port]`",
            ));
        }
        Ok((protocol, name.to_owned()))
    };
    let (protocols, names): (Vec<_>, Vec<_>) =
        hosts.iter().map(split).collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let protocol = protocols.first().copied().flatten();
    if protocols.iter().any(|other| *other != protocol) {
        return Err(invalid("`Etcd.Hosts` mixes protocols: go-zero would apply the first to all"));
    }
    Ok((names.join(","), protocol))
}

fn encode(part: &str) -> PercentEncode<'_> {
    utf8_percent_encode(part, NON_ALPHANUMERIC)
}
