//! Parses an etcd URL into endpoints and connection settings.

use crate::endpoint::Endpoint;
use crate::options::EtcdOptions;
use crate::transport::Dial;
use etcd_client::ConnectOptions;
use registry_core::{Error, ErrorKind, Result, Target};

/// The default port of etcd.
const PORT: u16 = 2379;

/// Returns the options that the URL may have, beyond those of every store.
pub(crate) fn allowed_options(target: &Target) -> &'static [&'static str] {
    match target.scheme() {
        "etcds" => &["layout", "ca", "cert", "key", "server_name", "verify"],
        _ => &["layout"],
    }
}

/// Returns the endpoints of the members that `target` names.
pub(crate) fn endpoints(target: &Target) -> Result<Vec<Endpoint>> {
    let protocol = match target.scheme() {
        "etcd" => "http",
        "etcds" => "https",
        other => {
            return Err(invalid(format!(
                "an etcd URL begins with etcd:// or etcds://, got=`{other}://`"
            )));
        }
    };
    if target.hosts().is_empty() {
        return Err(invalid(
            "the etcd URL names no host: use etcd://host, or etcd://host1,host2 for a cluster",
        ));
    }
    let endpoint = |authority: String| {
        let url = format!("{protocol}://{authority}");
        Endpoint { authority, url }
    };
    Ok(target.hosts().iter().map(|host| endpoint(host.authority(PORT))).collect())
}

/// Returns the connection settings for the members.
pub(crate) fn dial(target: &Target, options: &EtcdOptions) -> Result<Dial> {
    // With `require_leader`, a member without a quorum refuses calls at once and ends watches that it cannot serve.
    let mut connect_options = ConnectOptions::new().with_require_leader(true);
    match (target.user(), target.password()) {
        (None, None) => {}
        (Some(user), Some(password)) => {
            connect_options = connect_options.with_user(user, password.reveal());
        }
        _ => {
            return Err(invalid(
                "the etcd URL has only one of user and password: use etcd://user:password@host",
            ));
        }
    }
    if target.scheme() == "etcds" {
        if !cfg!(feature = "tls") {
            let message = "`etcds://` is not built in: add the feature `tls` of registry-etcd";
            return Err(invalid(message));
        }
        if target.option("cert").is_some() != target.option("key").is_some() {
            return Err(invalid(
                "the URL has only one of `cert` and `key`: a client certificate needs both",
            ));
        }
        if target.option("verify").is_some_and(|verify| verify != "none") {
            return Err(invalid(
                "option `verify` must be `none`; leave it out to verify the server",
            ));
        }
    }
    Ok(Dial::new(connect_options, options, target))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
