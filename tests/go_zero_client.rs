//! Tests of go-zero's configuration of clients.
#![cfg(all(feature = "go-zero", feature = "grpc"))]

use serde::Deserialize;
use service_registry::ErrorKind;
use service_registry::go_zero::{self, ClientConfig};
use service_registry::grpc::ChannelTarget;
use std::time::Duration;

/// A configuration with the other fields of a go-zero client.
const USER: &str = "\
etcd:
  Hosts:
    - h1:2379
    - h2:2379
  KEY: prod/user.rpc
APP: mall
token: s3cret
Timeout: 500
nonblock: false
KeepaliveTime: 20s
BalancerName: p2c_ewma
Middlewares: {Trace: true, Breaker: true}
MethodTimeouts: [{FullMethod: /user.User/Find, Timeout: 1s}]
";

fn parse(yaml: &str) -> ClientConfig {
    ClientConfig::from_yaml(yaml).unwrap_or_else(|error| panic!("{}: {yaml}", error.chain()))
}

fn target(yaml: &str) -> String {
    parse(yaml).target().to_string()
}

#[test]
fn a_go_zero_file_is_read_unchanged() {
    let config = parse(USER);
    assert_eq!(config.target().to_string(), "etcd:///h1:2379,h2:2379?key=prod%2Fuser.rpc");
    let (app, token) = config.credentials().unwrap();
    assert_eq!((app, token.reveal()), ("mall", "s3cret"));
    assert_eq!(config.timeout(), Some(Duration::from_millis(500)));
    assert!(!config.non_block());
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    let options = config.channel_options().unwrap();
    for (key, value) in [("app", "mall"), ("token", "s3cret")] {
        assert_eq!(options.metadata.get(key).unwrap(), value);
    }
    let error = parse("{Target: 'direct:///a:1', App: mall, Token: \"s3cret\\n\"}");
    let error = error.channel_options().unwrap_err();
    assert!(error.to_string().contains("`Token`") && !error.to_string().contains("s3cret"));
}

#[test]
fn the_defaults_are_those_of_go_zero() {
    let config = parse("Target: direct:///a:1");
    assert_eq!(config.timeout(), Some(Duration::from_secs(2)));
    assert!(config.non_block());
    assert!(config.credentials().is_none());
    assert_eq!(parse("{Target: 'direct:///a:1', Timeout: 0}").timeout(), None);
    assert_eq!(parse("{Target: 'direct:///a:1', Timeout: -1}").timeout(), None);
    for half in ["App: mall", "Token: t", "App: mall, Token: ''"] {
        assert!(parse(&format!("{{Target: 'direct:///a:1', {half}}}")).credentials().is_none());
    }
}

#[test]
fn endpoints_take_precedence_over_target_registry_and_etcd_in_this_order() {
    let etcd = "Etcd: {Hosts: [h], Key: e}";
    let registry = "ServiceRegistry: {Url: 'redis://r/0', Key: k}";
    let both = format!("{registry}, {etcd}");
    assert_eq!(
        target(&format!("{{Endpoints: ['a:1', 'b:2'], Target: 'k8s://x', {both}}}")),
        "direct:///a:1,b:2"
    );
    assert_eq!(
        target(&format!("{{Endpoints: [], Target: 'discov://t/user', {both}}}")),
        "etcd:///t?key=user"
    );
    assert_eq!(target(&format!("{{Target: '', {both}}}")), "redis://r/0?service=k");
    assert_eq!(
        target(&format!("{{ServiceRegistry: {{Url: 'redis://r/0'}}, {etcd}}}")),
        "redis://r/0?service=e"
    );
    assert_eq!(target(&format!("{{{etcd}}}")), "etcd:///h?key=e");
}

#[test]
fn a_client_reads_the_etcd_section_like_a_server() {
    let config = parse(
        "Etcd: {Hosts: [h], Key: /a, User: u, Pass: s3cret, CertFile: c, CertKeyFile: k, CACertFile: /ca.pem}",
    );
    let ChannelTarget::Service { registry, service } = config.target() else {
        panic!("{config:?}")
    };
    assert_eq!(registry.to_string(), "etcds://u:***@h//?ca=/ca.pem&cert=c&key=k&layout=go-zero");
    assert_eq!(service.as_str(), "a");
}

#[test]
fn an_error_names_the_wrong_field() {
    for (yaml, hint) in [
        ("Timeout: 5", "set `Endpoints`, `Target`, `Etcd` or `ServiceRegistry.Url`"),
        ("Etcd: {Hosts: [], Key: ''}", "the client has no target: set `Endpoints`"),
        ("Etcd: {}", "`Etcd.Hosts` is missing"),
        ("{Endpoints: ['a:1'], Etcd: {Key: a}}", "`Etcd.Hosts` is missing"),
        ("Etcd: {Hosts: [h]}", "`Etcd.Key` is missing: set it beside `Etcd.Hosts`"),
        ("Endpoints: [a]", "`Endpoints` cannot be used"),
        ("Target: k8s://ns/user:80", "`Target` cannot be used: `k8s://` targets are not supported"),
        (
            "ServiceRegistry: {Url: 'mem://'}",
            "`ServiceRegistry.Key` is missing: set it beside `ServiceRegistry.Url`",
        ),
        ("ServiceRegistry: {Url: mem}", "`ServiceRegistry.Url` cannot be used"),
        ("ServiceRegistry: {Url: 'mem://', Key: /a}", "`ServiceRegistry.Key` cannot be used"),
        ("Timeout: 5s", "`Timeout` must be a whole number of 64 bits"),
        ("NonBlock: 'false'", "`NonBlock` is not `true` or `false`"),
        (
            "{Target: 'direct:///a:1', App: a, Token: '${T}'}",
            "`Token` cannot be used: it contains a variable",
        ),
        (
            "Etcd: {Hosts: [h], Key: '${ENV}/a'}",
            "`Etcd.Key` cannot be used: it contains a variable",
        ),
    ] {
        let error = ClientConfig::from_yaml(yaml).expect_err(yaml);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{yaml}");
        let message = error.chain().to_string();
        assert!(message.contains(hint), "{yaml}: {message}");
    }
}

/// A client inherits the fields of the enclosing `Etcd` that it does not set itself.
#[test]
fn a_client_inherits_etcd_from_the_enclosing_maps() {
    #[derive(Deserialize)]
    struct Clients {
        user: ClientConfig,
    }
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        clients: Option<Clients>,
        #[serde(default)]
        list: Vec<ClientConfig>,
    }
    let read = |yaml: &str| go_zero::from_yaml::<Config>(yaml);
    for (client, expected) in [
        ("{}", "etcd:///h1,h2?key=order"),
        ("{Etcd: {Key: user}}", "etcd:///h1,h2?key=user"),
        ("{etcd: {hosts: [h3]}}", "etcd:///h3?key=order"),
        ("{Target: 'direct:///a:1'}", "direct:///a:1"),
    ] {
        let config = read(&format!(
            "{{Etcd: {{Hosts: [h1, h2], Key: order}}, clients: {{user: {client}}}}}"
        ));
        assert_eq!(config.unwrap().clients.unwrap().user.target().to_string(), expected);
    }
    let nearer = "{Etcd: {Hosts: [h1], Key: a}, clients: {eTCD: {Key: b}, user: {}}}";
    assert_eq!(
        read(nearer).unwrap().clients.unwrap().user.target().to_string(),
        "etcd:///h1?key=b"
    );
    // As in go-zero, a client in a list inherits nothing.
    let stated = "{Etcd: {Hosts: [h1], Key: a}, list: [{Target: 'direct:///a:1'}]}";
    assert_eq!(read(stated).unwrap().list[0].target().to_string(), "direct:///a:1");
    let error = read("{Etcd: {Hosts: [h1], Key: a}, list: [{Timeout: 1}]}").err().unwrap();
    assert!(error.to_string().starts_with("`list.0`: the client has no target"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_blocking_client_waits_three_seconds_for_an_endpoint() {
    let connect = async |yaml: &str| parse(yaml).connect().await;
    let begun = tokio::time::Instant::now();
    connect("{Endpoints: ['127.0.0.1:1']}").await.unwrap();
    assert!(begun.elapsed().is_zero(), "a client does not wait by default");
    let error = connect("{Endpoints: ['127.0.0.1:1'], NonBlock: false}").await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::Unavailable, 3));
    assert!(error.chain().to_string().contains("can be reached (1 tried): Connection refused"));
}
