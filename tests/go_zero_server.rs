//! Configuration of servers, as go-zero has it.
#![cfg(feature = "go-zero")]

use service_registry::go_zero::ServerConfig;
use service_registry::{CallOptions, Error, ErrorKind, LeaseId};
use std::fs;

const USER: &str = "\
Name: user.rpc
ListenOn: 0.0.0.0:8081
Etcd:
  Hosts:
    - 127.0.0.1:2379
  Key: user.rpc
";

/// With what services of go-zero have beside, and with fields of a service's own.
const ORDER: &str = "\
# The order service.
NAME: order.rpc
LISTENON: 10.0.0.7:9090
Mode: pro
Timeout: 3000
CpuThreshold: 900
Health: true
Auth: false
MethodTimeouts:
  - FullMethod: /order.Order/Create
    Timeout: 5s
Middlewares:
  Trace: true
  StatConf: {SlowThreshold: 500ms}
Log: &log
  ServiceName: order.rpc
  Mode: file
  Path: /var/log/order
  KeepDays: 7
OldLog: *log
Prometheus:
  Host: 0.0.0.0
  Port: 4001
  Path: /metrics
Telemetry:
  Name: order.rpc
  Endpoint: http://jaeger:14268/api/traces
  Sampler: 1.0
DevServer:
  Enabled: true
Shutdown: {WrapUpTime: 1s, WaitTime: 5.5s}
Redis:
  Host: redis:6379
  Pass: 8
  Key: order
DataSource: root:pw@tcp(mysql:3306)/order?charset=utf8mb4
Cache:
  - Host: redis:6379
UserRpc:
  Etcd: {Hosts: [other:2379], Key: user.rpc}
etcd:
  hosts: ['etcd-0.etcd:2379', 'etcd-1.etcd', '[::1]:2379']
  KEY: /prod/order.rpc
  id: 7
  User: us@er
  pass: 012345
  CertFile:
  CertKeyFile: ''
  InsecureSkipVerify: false
";

fn parse(yaml: &str) -> ServerConfig {
    ServerConfig::from_yaml(yaml).unwrap_or_else(|error| panic!("{}: {yaml}", error.chain()))
}

fn refused(yaml: &str) -> Error {
    let error = ServerConfig::from_yaml(yaml).expect_err(yaml);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{yaml}");
    error
}

fn url(config: &ServerConfig) -> String {
    config.registry().expect("it registers").to_string()
}

#[test]
fn a_file_of_go_zero_is_read_as_it_is() {
    let config = parse(USER);
    assert_eq!((config.name(), config.service().as_str()), ("user.rpc", "user.rpc"));
    assert_eq!(config.listen_on().to_string(), "0.0.0.0:8081");
    assert_eq!(url(&config), "etcd://127.0.0.1:2379?layout=go-zero");
}

#[test]
fn field_names_match_in_any_case_and_unknown_fields_are_ignored() {
    let config = parse(ORDER);
    assert_eq!((config.name(), config.service().as_str()), ("order.rpc", "prod/order.rpc"));
    let hosts = "etcd-0.etcd:2379,etcd-1.etcd,[::1]:2379";
    assert_eq!(url(&config), format!("etcd://us%40er:***@{hosts}//?layout=go-zero"));
    assert_eq!(config.registry().unwrap().password().unwrap().reveal(), "012345");
    let instance = config.instance(([0, 0, 0, 0], 9090).into(), LeaseId::random()).unwrap();
    assert_eq!((instance.id().as_str(), instance.address().as_str()), ("7", "10.0.0.7:9090"));
    assert!(!format!("{config:?}").contains("12345"), "{config:?}");
}

#[test]
fn an_instance_is_named_after_its_lease_as_in_go_zero() {
    let config = parse(
        "{Name: a, ListenOn: 'localhost:0', Weight: 7, Metadata: {Zone: eu-1, n: 1}, \
         Etcd: {ID: 0, Hosts: [h], Key: a}}",
    );
    let lease = LeaseId::new(1_418_812_021_444_581_893).unwrap();
    let instance = config.instance(([127, 0, 0, 1], 4000).into(), lease).unwrap();
    assert_eq!(instance.id().as_str(), "1418812021444581893");
    assert_eq!(instance.address().as_str(), "localhost:4000");
    assert_eq!((instance.weight(), &*instance.metadata()["Zone"]), (7, "eu-1"));
    assert_eq!(instance.metadata()["n"], "1");
}

#[test]
fn a_server_registers_if_it_names_a_registry_and_a_service() {
    for etcd in ["", "Etcd:", "Etcd: {}", "Etcd: {Hosts: [], Key: ''}", "Etcd: {Hosts: , Key: }"] {
        let config = parse(&format!("Name: a\nListenOn: ':80'\n{etcd}\n"));
        assert_eq!(config.registry(), None, "{etcd}");
        assert_eq!(config.service().as_str(), "a");
    }
}

#[test]
fn the_tls_files_are_passed_to_the_store() {
    let tls = |fields: &str| {
        let etcd = format!("{{Hosts: [h], Key: a, {fields}}}");
        ServerConfig::from_yaml(&format!("{{Name: a, ListenOn: ':80', Etcd: {etcd}}}"))
    };
    let all = tls("CertFile: /a b.pem, CertKeyFile: k&.pem, CACertFile: ca.pem").unwrap();
    let target = all.registry().unwrap();
    let options = ["ca", "cert", "key", "layout"].map(|name| target.option(name).unwrap());
    assert_eq!((target.scheme(), options), ("etcds", ["ca.pem", "/a b.pem", "k&.pem", "go-zero"]));
    let ca = tls("CACertFile: ca.pem").unwrap();
    assert_eq!(url(&ca), "etcds://h?ca=ca.pem&layout=go-zero");

    for fields in ["CertFile: c.pem", "CertKeyFile: k.pem, CACertFile: ca.pem"] {
        let message = tls(fields).unwrap_err().to_string();
        assert!(message.contains("`Etcd.CertFile` and `Etcd.CertKeyFile`"), "{fields}: {message}");
    }
    let message = tls("InsecureSkipVerify: true").unwrap_err().to_string();
    assert!(message.contains("`CACertFile`"), "{message}");
}

#[test]
fn a_user_without_a_password_is_ignored_as_in_go_zero() {
    for login in ["User: u", "Pass: p", "User: u, Pass: ''"] {
        let etcd = format!("{{Hosts: [h], Key: a, {login}}}");
        let config = parse(&format!("{{Name: a, ListenOn: ':80', Etcd: {etcd}}}"));
        assert_eq!(url(&config), "etcd://h?layout=go-zero");
    }
}

#[test]
fn any_registry_replaces_etcd() {
    let config = parse(&format!("{USER}Registry: redis://:pw@h/0?prefix=p&ttl=5s\n"));
    assert_eq!(url(&config), "redis://:***@h/0?prefix=p&ttl=5s");
    assert_eq!(config.service().as_str(), "user.rpc");
    assert!(!format!("{config:?}").contains("pw"));
    let lease = LeaseId::random();
    let instance = parse("{Name: a, ListenOn: 'h:80', Registry: 'mem://', Key: prod/a}")
        .instance(([0, 0, 0, 0], 80).into(), lease)
        .unwrap();
    assert_eq!(instance.service().as_str(), "prod/a");
    assert_eq!(instance.id().as_str(), lease.to_string());
    let named = parse("{Name: a, ListenOn: 'h:80', Registry: 'mem://', Etcd: {Key: b}}");
    assert_eq!(named.service().as_str(), "b");
    // Without `Registry` it is a field of somebody else's.
    assert_eq!(parse(&format!("{USER}Key: other\n")).service().as_str(), "user.rpc");
}

#[test]
fn the_address_to_publish_is_chosen_as_configured() {
    let stated = parse(&format!("{USER}advertiseOn: user.example.com\n"));
    let instance = stated.instance(([0, 0, 0, 0], 8081).into(), LeaseId::random()).unwrap();
    assert_eq!(instance.address().as_str(), "user.example.com:8081");
    let lo = parse(&format!("{USER}Cidr: 127.0.0.0/8\n"));
    let instance = lo.instance(([0, 0, 0, 0], 8081).into(), LeaseId::random()).unwrap();
    assert_eq!(instance.address().as_str(), "127.0.0.1:8081");
    let none = parse(&format!("{USER}Interface: none7\n"));
    let error = none.instance(([0, 0, 0, 0], 8081).into(), LeaseId::random()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn an_error_names_the_wrong_field() {
    for (rest, hint) in [
        ("ListenOn: ':80'", "a server has a `Name`"),
        ("Name: ''", "a server has a `Name`"),
        ("Name: a", "a server has a `ListenOn`"),
        ("{Name: a, ListenOn: '8080'}", "`ListenOn` cannot be used: a server listens on"),
        ("{Name: a/, ListenOn: ':80'}", "`Name` cannot be used"),
        (
            "{Name: a, ListenOn: ':80', Etcd: {Hosts: [h]}}",
            "`Etcd.Key` is missing: set it beside `Etcd.Hosts`",
        ),
        (
            "{Name: a, ListenOn: ':80', Etcd: {Key: a}}",
            "`Etcd.Hosts` is missing: set it beside `Etcd.Key`",
        ),
        ("{Name: a, ListenOn: ':80', Etcd: {Hosts: [h], Key: a/}}", "`Etcd.Key` cannot be used"),
        ("{Name: a, ListenOn: ':80', Etcd: {Hosts: ['h:x'], Key: a}}", "`Etcd.Hosts` cannot"),
        (
            "{Name: a, ListenOn: ':80', Etcd: {Hosts: ['https://h'], Key: a}}",
            "each `host` or `host:port`",
        ),
        ("{Name: a, ListenOn: ':80', Registry: redis}", "`Registry` cannot be used"),
        ("{Name: a, ListenOn: ':80', Registry: 'mem://?ttl=0s'}", "100ms to 1day, such as `10s`"),
        ("{Name: a, ListenOn: ':80', Registry: 'mem://', Key: a/}", "`Key` cannot be used"),
        ("{Name: a/, ListenOn: ':80', Registry: 'mem://'}", "`Name` cannot be used"),
        ("{Name: a, ListenOn: ':80', AdvertiseOn: 'a:b'}", "`AdvertiseOn` cannot be used"),
        ("{Name: a, ListenOn: ':80', Cidr: 10}", "`Cidr` cannot be used"),
        ("{Name: a, ListenOn: ':80', Weight: -1}", "line=`1`"),
        ("Name: a\nListenOn: [1]\n", "line=`2`"),
        ("Name: a\nname: b\n", "duplicate field `name`"),
        ("Name: \"a", "a configuration is YAML"),
        ("", "a server has a `Name`"),
        ("text", "is a mapping, line=`1`"),
    ] {
        let message = refused(rest).chain().to_string();
        assert!(message.contains(hint), "{rest}: {message}");
    }
}

/// A server registered under the literal `${ENVIRON}/user.rpc`, and sent `${ETCD_PASS}` as its password.
#[test]
fn a_variable_is_refused_and_its_field_is_named() {
    for (field, yaml) in [
        ("Name", "Name: 'a${B}', ListenOn: ':80'"),
        ("Key", "Name: a, ListenOn: ':80', Registry: 'mem://', Key: '${B}'"),
        ("Etcd.Key", "Name: a, ListenOn: ':80', Etcd: {Hosts: [h], Key: '${B}/user.rpc'}"),
        (
            "Etcd.User",
            "Name: a, ListenOn: ':80', Etcd: {Hosts: [h], Key: a, User: '${B}', Pass: p}",
        ),
        (
            "Etcd.Pass",
            "Name: a, ListenOn: ':80', Etcd: {Hosts: [h], Key: a, User: u, Pass: '${B}'}",
        ),
    ] {
        let message = refused(&format!("{{{yaml}}}")).to_string();
        assert!(message.starts_with(&format!("`{field}` has `${{` in it")), "{message}");
        assert!(!message.contains('B'), "{message}");
    }
}

#[test]
fn no_error_shows_the_text_of_the_file() {
    for yaml in [
        "Etcd: s3cret",
        "Etcd:\n  Pass: [s3cret]",
        "Etcd:\n  ID: s3cret",
        "Etcd:\n  Pass: 's3cret",
        "Registry: redis:s3cret@h",
        "Registry: redis://app:s3cret/x@h",
        "Pass: s3cret\nName: [",
        "{Name: a, ListenOn: ':80', Etcd: {Hosts: ['http://u:s3cret@h'], Key: a}}",
    ] {
        let yaml = if yaml.starts_with('{') {
            yaml.into()
        } else {
            format!("Name: a\nListenOn: h:1\n{yaml}")
        };
        let error = refused(&yaml);
        let told = format!("{} {error:?}", error.chain());
        assert!(!told.contains("s3cret"), "{told}");
    }
}

#[test]
fn an_error_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user.yaml");
    let error = ServerConfig::read(&path).unwrap_err();
    assert!(error.to_string().ends_with(&format!("path=`{}`", path.display())), "{error}");
    fs::write(&path, "Name: a\nWeight: x\n").unwrap();
    let error = ServerConfig::read(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().ends_with(&format!("path=`{}`", path.display())), "{error}");
    assert!(error.chain().to_string().contains("line=`2`"), "{}", error.chain());
    fs::write(&path, USER).unwrap();
    assert_eq!(ServerConfig::read(&path).unwrap().name(), "user.rpc");
}

#[tokio::test]
async fn a_server_that_names_no_registry_is_not_registered() {
    let config = parse("{Name: a, ListenOn: 'h:80'}");
    let registration = config.register(([0, 0, 0, 0], 80).into()).await.unwrap();
    assert!(registration.is_none());
}

/// To Go it is one key, whose value is the address.
#[cfg(feature = "etcd")]
#[tokio::test]
async fn a_server_on_etcd_is_found_where_go_zero_looks() {
    let server = registry_testbed::servers::Etcd::start().await.unwrap();
    let config = parse(&format!(
        "{{Name: a, ListenOn: '127.0.0.1:0', Etcd: {{Hosts: ['{}'], Key: /prod/a}}}}",
        server.endpoint().trim_start_matches("http://"),
    ));
    let registration = config.register(([127, 0, 0, 1], 4000).into()).await.unwrap().unwrap();
    let url = format!("{}//?layout=go-zero", server.url());
    let whole = service_registry::connect(&url).await.unwrap();
    let whole = whole.registry();
    let found = whole.load(&"prod/a".parse().unwrap(), &CallOptions::DEFAULT).await.unwrap();
    let id = registration.instance().id().clone();
    let found = found.records().find(id.as_str()).unwrap().instance();
    assert_eq!(found.address().port(), 4000);
    registration.stop().await.unwrap();
}
