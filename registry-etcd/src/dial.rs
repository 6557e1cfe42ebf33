//! From a URL to what a connection needs.

use crate::cluster::Endpoint;
use crate::options::EtcdOptions;
use etcd_client::ConnectOptions;
use registry_core::{Error, ErrorKind, Result, Target};

/// Where etcd listens unless the URL says otherwise.
const PORT: u16 = 2379;

/// The options that its URL may have.
pub(crate) fn allowed_options(target: &Target) -> &'static [&'static str] {
    match target.scheme() {
        "etcds" => &["layout", "ca", "cert", "key", "server_name"],
        _ => &["layout"],
    }
}

/// The members that `target` names.
pub(crate) fn endpoints(target: &Target) -> Result<Vec<Endpoint>> {
    let protocol = match target.scheme() {
        "etcd" => "http",
        "etcds" => "https",
        other => {
            return Err(invalid(format!("the URL of an etcd is etcd://host, got=`{other}://`")));
        }
    };
    if target.hosts().is_empty() {
        return Err(invalid(
            "an etcd has a host: etcd://host, or etcd://host1,host2 for a cluster",
        ));
    }
    let endpoint = |authority: String| {
        let url = format!("{protocol}://{authority}");
        Endpoint { authority, url }
    };
    Ok(target.hosts().iter().map(|host| endpoint(host.authority(PORT))).collect())
}

/// How to connect to each of them.
pub(crate) fn options(target: &Target, options: &EtcdOptions) -> Result<ConnectOptions> {
    let mut dial = ConnectOptions::new()
        .with_connect_timeout(options.connect_timeout)
        .with_keep_alive(options.ping_interval, options.ping_timeout)
        // etcd takes pings without a stream for abuse, and closes the connection.
        .with_keep_alive_while_idle(false)
        // A member that lost its quorum refuses calls at once, and ends watches that it could
        // not serve.
        .with_require_leader(true);
    match (target.user(), target.password()) {
        (None, None) => {}
        (Some(user), Some(password)) => dial = dial.with_user(user, password.reveal()),
        _ => return Err(invalid("etcd wants a user and a password: etcd://user:password@host")),
    }
    if target.scheme() == "etcds" {
        dial = with_tls(dial, target)?;
    }
    Ok(dial)
}

#[cfg(feature = "tls")]
fn with_tls(dial: ConnectOptions, target: &Target) -> Result<ConnectOptions> {
    Ok(dial.with_tls(crate::tls::options(target)?))
}

#[cfg(not(feature = "tls"))]
fn with_tls(_: ConnectOptions, _: &Target) -> Result<ConnectOptions> {
    Err(invalid("`etcds://` is not built in: add the feature `tls` of registry-etcd"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
