//! From a URL to what a connection needs.

use crate::endpoint::Endpoint;
use crate::options::EtcdOptions;
use crate::transport::Dial;
use etcd_client::ConnectOptions;
use registry_core::{Error, ErrorKind, Result, Target};

/// Where etcd listens unless the URL says otherwise.
const PORT: u16 = 2379;

/// The options that its URL may have.
pub(crate) fn allowed_options(target: &Target) -> &'static [&'static str] {
    match target.scheme() {
        "etcds" => &["layout", "ca", "cert", "key", "server_name", "verify"],
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
pub(crate) fn dial(target: &Target, options: &EtcdOptions) -> Result<Dial> {
    // A member that lost its quorum refuses calls at once, and ends watches that it could not serve.
    let mut calls = ConnectOptions::new().with_require_leader(true);
    match (target.user(), target.password()) {
        (None, None) => {}
        (Some(user), Some(password)) => calls = calls.with_user(user, password.reveal()),
        _ => return Err(invalid("etcd wants a user and a password: etcd://user:password@host")),
    }
    if target.scheme() == "etcds" {
        if !cfg!(feature = "tls") {
            let message = "`etcds://` is not built in: add the feature `tls` of registry-etcd";
            return Err(invalid(message));
        }
        if target.option("cert").is_some() != target.option("key").is_some() {
            return Err(invalid(
                "a client has both of a certificate and its key: `cert` and `key`",
            ));
        }
        if target.option("verify").is_some_and(|verify| verify != "none") {
            return Err(invalid(
                "option `verify` is `none`, or is not there: a server is verified",
            ));
        }
    }
    Ok(Dial::new(calls, options, target))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
