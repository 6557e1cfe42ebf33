//! The configuration that this library reads, in the JSON form of the program in Go.

use serde_json::{Value, json};
use service_registry::ServiceName;
use service_registry::go_zero::{ClientConfig, ServerConfig};
use service_registry::grpc::ChannelTarget;
use service_registry::store::Target;

const ETCD_PORT: u16 = 2379;

pub(crate) fn server(config: &ServerConfig) -> Value {
    let etcd = config.registry().zip(config.service()).map(|(registry, service)| {
        let mut place = place(registry, service);
        if let Some(id) = config.id() {
            place["id"] = id.as_str().parse::<i64>().unwrap().into();
        }
        place
    });
    let listen_on = config.listen_on().to_string();
    json!({"server": {"name": config.name(), "listen_on": listen_on, "etcd": etcd}})
}

pub(crate) fn client(config: &ClientConfig) -> Value {
    let millis = config.timeout().map_or(0, |timeout| timeout.as_millis());
    let millis = u64::try_from(millis).unwrap();
    let mut client = json!({"millis": millis, "non_block": config.non_block()});
    match config.target() {
        ChannelTarget::Service { registry, service } => client["etcd"] = place(registry, service),
        ChannelTarget::Direct(addresses) => {
            let mut direct: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            direct.sort();
            direct.dedup();
            client["direct"] = direct.into();
        }
    }
    if let Some((app, token)) = config.credentials() {
        client["app"] = app.into();
        client["token"] = token.reveal().into();
    }
    json!({"client": client})
}

fn place(registry: &Target, service: &ServiceName) -> Value {
    let hosts: Vec<_> = registry.hosts().iter().map(|host| host.authority(ETCD_PORT)).collect();
    let key = format!("{}{service}", registry.path());
    let mut place = json!({"hosts": hosts, "key": key, "secure": registry.scheme() == "etcds"});
    if let Some((user, password)) = registry.user().zip(registry.password()) {
        place["user"] = user.into();
        place["pass"] = password.reveal().into();
    }
    let files = ["cert", "key", "ca"].map(|option| registry.option(option));
    if files.iter().all(Option::is_some) {
        place["tls"] = files.to_vec().into();
    }
    if registry.option("verify").is_some() {
        place["skip_verify"] = true.into();
    }
    place
}

/// Completes what the program in Go reads with the defaults that go-zero's libraries apply later.
pub(crate) fn normal(theirs: &Value) -> Value {
    let mut theirs = theirs.clone();
    if let Some(listen_on) = theirs.pointer_mut("/server/listen_on")
        && listen_on.as_str().unwrap().starts_with(':')
    {
        *listen_on = format!("0.0.0.0{}", listen_on.as_str().unwrap()).into();
    }
    for pointer in ["/server/etcd", "/client/etcd"] {
        let Some(place) = theirs.pointer_mut(pointer).filter(|place| !place.is_null()) else {
            continue;
        };
        let has_tls = place.get("tls").is_some();
        let hosts = place["hosts"].as_array().unwrap().iter();
        let hosts: Vec<_> = hosts.map(|host| host.as_str().unwrap().to_owned()).collect();
        place["secure"] = (has_tls || hosts.iter().any(|host| host.starts_with("https://"))).into();
        place["hosts"] = hosts.iter().map(|host| with_port(host)).collect::<Vec<_>>().into();
    }
    theirs
}

/// Returns a host in the form that etcd's client dials.
fn with_port(host: &str) -> String {
    let host = host.trim_start_matches("http://").trim_start_matches("https://");
    let has_port = host.rsplit(']').next().unwrap().contains(':');
    if has_port { host.to_owned() } else { format!("{host}:{ETCD_PORT}") }
}
