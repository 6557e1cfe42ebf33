//! Tests of go-zero's configuration of servers.
#![cfg(feature = "go-zero")]

use serde::Deserialize;
use service_registry::go_zero::{self, Format, Loader, ServerConfig};
use service_registry::store::LeaseId;
use service_registry::{Error, ErrorKind};
use std::fs;

const USER: &str = "\
Name: user.rpc
ListenOn: 0.0.0.0:8081
Etcd:
  Hosts:
    - 127.0.0.1:2379
  Key: user.rpc
";

/// A configuration with the other fields of a go-zero service, and with the service's own fields.
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
  Pass: '8'
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
  pass: '012345'
  CertFile:
  CertKeyFile: ''
  CACertFile: ~
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

fn service(config: &ServerConfig) -> &str {
    config.service().expect("the configuration names no service").as_str()
}

fn url(config: &ServerConfig) -> String {
    config.registry().expect("the configuration names no registry").to_string()
}

#[test]
fn a_go_zero_file_is_read_unchanged() {
    let config = parse(USER);
    assert_eq!((config.name(), service(&config)), ("user.rpc", "user.rpc"));
    assert_eq!(config.listen_on().to_string(), "0.0.0.0:8081");
    assert_eq!(url(&config), "etcd://127.0.0.1:2379?layout=go-zero");
}

#[test]
fn field_names_match_in_any_case_and_unknown_fields_are_ignored() {
    let config = parse(ORDER);
    assert_eq!((config.name(), service(&config)), ("order.rpc", "prod/order.rpc"));
    let hosts = "etcd-0.etcd:2379,etcd-1.etcd,[::1]:2379";
    assert_eq!(url(&config), format!("etcd://us%40er:***@{hosts}//?layout=go-zero"));
    assert_eq!(config.registry().unwrap().password().unwrap().reveal(), "012345");
    let instance = config.instance(([0, 0, 0, 0], 9090).into(), LeaseId::random()).unwrap();
    assert_eq!((instance.id().as_str(), instance.address().as_str()), ("7", "10.0.0.7:9090"));
    assert!(!format!("{config:?}").contains("12345"), "{config:?}");
}

#[test]
fn the_id_of_an_instance_is_its_lease_as_in_go_zero() {
    let config = parse(
        "{Name: a, ListenOn: 'localhost:0', Etcd: {ID: 0, Hosts: [h], Key: a}, \
         serviceregistry: {weight: 7, METADATA: {Zone: eu-1, v: '1.10'}}}",
    );
    let lease = LeaseId::new(1_418_812_021_444_581_893).unwrap();
    let instance = config.instance(([127, 0, 0, 1], 4000).into(), lease).unwrap();
    assert_eq!(instance.id().as_str(), "1418812021444581893");
    assert_eq!(instance.address().as_str(), "localhost:4000");
    assert_eq!((instance.weight(), &*instance.metadata()["Zone"]), (7, "eu-1"));
    assert_eq!(instance.metadata()["v"], "1.10");
}

#[test]
fn a_server_registers_if_it_names_a_registry_and_a_service() {
    for etcd in
        ["", "Etcd: {Hosts: [], Key: ''}", "Etcd: {Hosts: [], Key: }", "ServiceRegistry: {}"]
    {
        // Without a registration any name is valid.
        let config = parse(&format!("Name: 'User RPC / v1/'\nListenOn: ':80'\n{etcd}\n"));
        assert_eq!((config.registry(), config.service()), (None, None), "{etcd}");
        let error = config.instance(([0; 4], 80).into(), LeaseId::random()).unwrap_err();
        assert!(error.to_string().contains("names no registry"), "{error}");
    }
    for etcd in ["Etcd:", "Etcd: {}", "Etcd: {Hosts: , Key: }"] {
        let message = refused(&format!("Name: a\nListenOn: ':80'\n{etcd}\n")).to_string();
        assert!(message.starts_with("`Etcd"), "as in go-zero: {message}");
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

    for fields in [
        "CertFile: c.pem",
        "CACertFile: ca.pem",
        "CertKeyFile: k.pem, CACertFile: ca.pem",
        "CertFile: c.pem, CertKeyFile: k.pem",
        // go-zero would connect without TLS.
        "CertFile: c.pem, CertKeyFile: k.pem, CACertFile: ''",
    ] {
        let message = tls(fields).unwrap_err().to_string();
        assert!(message.contains("only some of `Etcd.CertFile`"), "{fields}: {message}");
    }
}

#[test]
fn verification_is_skipped_only_if_both_sections_say_so() {
    let files = "CertFile: c, CertKeyFile: k, CACertFile: ca, InsecureSkipVerify: true";
    let yaml = |own: &str| {
        let etcd = format!("{{Hosts: [h], Key: a, {files}}}");
        format!("{{Name: a, ListenOn: ':80', Etcd: {etcd}, ServiceRegistry: {{{own}}}}}")
    };
    for own in ["", "InsecureSkipVerify: false"] {
        let message = refused(&yaml(own)).to_string();
        assert!(message.contains("`ServiceRegistry.InsecureSkipVerify`"), "{message}");
    }
    let config = parse(&yaml("InsecureSkipVerify: true"));
    assert_eq!(config.registry().unwrap().option("verify"), Some("none"));
    let alone = "{Name: a, ListenOn: ':80', Etcd: {Hosts: ['https://h'], Key: a}, \
                 ServiceRegistry: {InsecureSkipVerify: true}}";
    assert_eq!(
        url(&parse(alone)),
        "etcds://h?layout=go-zero",
        "one section alone must not skip the verification"
    );
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
fn the_section_service_registry_replaces_etcd() {
    let own = |own: &str| parse(&format!("{USER}ServiceRegistry: {{{own}}}\n"));
    let config = own("Url: 'redis://:pw@h/0?prefix=p&ttl=5s'");
    assert_eq!(url(&config), "redis://:***@h/0?prefix=p&ttl=5s");
    assert_eq!(service(&config), "user.rpc");
    assert!(!format!("{config:?}").contains("pw"));
    let lease = LeaseId::random();
    let instance = own("Url: 'mem://', Key: prod/a, AdvertiseOn: 'h:80'")
        .instance(([0, 0, 0, 0], 80).into(), lease)
        .unwrap();
    assert_eq!(instance.service().as_str(), "prod/a");
    assert_eq!(instance.id().as_str(), lease.to_string());
    let named = parse("{Name: a, ListenOn: 'h:80', ServiceRegistry: {Url: 'mem://'}}");
    assert_eq!(service(&named), "a");
}

/// Regression: a service's own field `Registry` silently replaced `Etcd.Hosts`.
#[test]
fn own_fields_of_a_service_can_have_any_name_except_service_registry() {
    let others =
        "Registry: redis://h\nKey: /\nWeight: heavy\nMetadata: [1]\nCidr: none\nInterface: 1\n";
    let config = parse(&format!("{USER}{others}"));
    assert_eq!(
        (&*url(&config), service(&config)),
        ("etcd://127.0.0.1:2379?layout=go-zero", "user.rpc")
    );
    let message = refused(&format!("{USER}ServiceRegistry: {{Weights: 7}}\n")).to_string();
    assert!(
        message.starts_with("`ServiceRegistry.Weights` is unknown, known are: `Url`"),
        "{message}"
    );
}

#[test]
fn the_address_to_publish_is_chosen_as_configured() {
    let stated = parse(&format!("{USER}ServiceRegistry: {{advertiseOn: user.example.com}}\n"));
    let instance = stated.instance(([0, 0, 0, 0], 8081).into(), LeaseId::random()).unwrap();
    assert_eq!(instance.address().as_str(), "user.example.com:8081");
    let lo = parse(&format!("{USER}ServiceRegistry: {{Cidr: 127.0.0.0/8}}\n"));
    let instance = lo.instance(([0, 0, 0, 0], 8081).into(), LeaseId::random()).unwrap();
    assert_eq!(instance.address().as_str(), "127.0.0.1:8081");
    let none = parse(&format!("{USER}ServiceRegistry: {{Interface: none7}}\n"));
    let error = none.instance(([0, 0, 0, 0], 8081).into(), LeaseId::random()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn an_error_names_the_wrong_field() {
    let own = |fields: &str| format!("{{Name: a, ListenOn: ':80', ServiceRegistry: {{{fields}}}}}");
    let etcd = |fields: &str| format!("{{Name: a, ListenOn: ':80', Etcd: {{{fields}}}}}");
    for (yaml, hint) in [
        ("ListenOn: ':80'".to_owned(), "`Name` is missing"),
        ("Name: a".to_owned(), "`ListenOn` is missing"),
        ("{Name: 7, ListenOn: ':80'}".to_owned(), "`Name` is not a string: put it in quotes"),
        (
            "{Name: a, ListenOn: '8080'}".to_owned(),
            "`ListenOn` cannot be used: the address to listen on is not",
        ),
        (etcd("Hosts: [h]"), "`Etcd.Key` is missing: set it beside `Etcd.Hosts`"),
        (etcd("Key: a"), "`Etcd.Hosts` is missing: set it beside `Etcd.Key`"),
        (etcd("Hosts: h, Key: a"), "`Etcd.Hosts` is not a list"),
        (etcd("Hosts: [h], Key: a/"), "`Etcd.Key` cannot be used"),
        (etcd("Hosts: ['h:x'], Key: a"), "`Etcd.Hosts` cannot"),
        (etcd("Hosts: ['h/p'], Key: a"), "an entry that is not"),
        (etcd("Hosts: ['https://h', h2], Key: a"), "mixes protocols"),
        (etcd("Hosts: [h], hosts: [h], Key: a"), "`Etcd.Hosts` is given twice, in different case"),
        (etcd("Hosts: [h], Key: a, ID: '9'"), "`Etcd.ID` must be a whole number of 64 bits"),
        (own("Url: redis"), "`ServiceRegistry.Url` cannot be used"),
        (own("Url: 'mem://?ttl=0s'"), "100ms to 1day, such as `10s`"),
        (own("Url: 'mem://', Key: a/"), "`ServiceRegistry.Key` cannot be used"),
        (own("Key: a"), "`ServiceRegistry.Url` is missing: set it beside `ServiceRegistry.Key`"),
        (own("AdvertiseOn: 'a:b'"), "`ServiceRegistry.AdvertiseOn` cannot be used"),
        (own("Cidr: '10'"), "`ServiceRegistry.Cidr` cannot be used"),
        (own("Weight: -1"), "`ServiceRegistry.Weight` is not within 0"),
        (
            own("Metadata: {v: 1.10}"),
            "`ServiceRegistry.Metadata.v` is not a string: put it in quotes",
        ),
        (
            "{Name: a/, ListenOn: ':80', ServiceRegistry: {Url: 'mem://'}}".to_owned(),
            "`Name` cannot be used",
        ),
        (
            "{Name: a, ListenOn: ':80', Timeout: 5s}".to_owned(),
            "`Timeout` must be a whole number of 64 bits",
        ),
        ("{Name: a, ListenOn: ':80', Mode: fast}".to_owned(), "`Mode` is not one of `dev`, `test`"),
        ("{Name: a, ListenOn: ':80', CpuThreshold: 1000}".to_owned(), "from 0 to 999"),
        ("Name: a\nListenOn: [1]\n".to_owned(), "`ListenOn` is not a string"),
        ("Name: a\nName: b\n".to_owned(), "`Name` is given twice, line=`2`"),
        ("Name: a\nname: b\n".to_owned(), "`Name` is given twice, in different case"),
        ("Name: \"a".to_owned(), "the YAML is malformed"),
        (String::new(), "a map of fields"),
        ("text".to_owned(), "a map of fields"),
    ] {
        let message = refused(&yaml).chain().to_string();
        assert!(message.contains(hint), "{yaml}: {message}");
    }
}

/// Regression: a server registered under the literal `${ENVIRON}/user.rpc`, and sent `${ETCD_PASS}` as its
/// password.
#[test]
fn a_variable_is_refused_and_its_field_is_named() {
    let etcd = |fields: &str| format!("Name: a, ListenOn: ':80', Etcd: {{{fields}}}");
    for (field, yaml) in [
        ("Name", "Name: 'a${B}', ListenOn: ':80'".to_owned()),
        ("ListenOn", "Name: a, ListenOn: ':$B'".to_owned()),
        (
            "ServiceRegistry.Key",
            "Name: a, ListenOn: ':80', ServiceRegistry: {Url: 'mem://', Key: $B}".to_owned(),
        ),
        (
            "ServiceRegistry.Metadata.a",
            "Name: a, ListenOn: ':80', ServiceRegistry: {Metadata: {a: $B}}".to_owned(),
        ),
        ("Etcd.Hosts", etcd("Hosts: [a, $B], Key: a")),
        ("Etcd.Key", etcd("Hosts: [h], Key: '${B}/user.rpc'")),
        ("Etcd.User", etcd("Hosts: [h], Key: a, User: '${B}', Pass: p")),
        ("Etcd.Pass", etcd("Hosts: [h], Key: a, User: u, Pass: 'pa$$word'")),
        ("Etcd.CertFile", etcd("Hosts: [h], Key: a, CertFile: $B, CertKeyFile: k, CACertFile: c")),
    ] {
        let message = refused(&format!("{{{yaml}}}")).to_string();
        assert!(
            message.starts_with(&format!("`{field}` cannot be used: it contains a variable")),
            "{message}"
        );
        assert!(!message.contains('B'), "{message}");
    }
}

#[test]
fn variables_are_expanded_if_the_loader_is_asked_to() {
    let yaml =
        "{Name: $N, ListenOn: ':${P}', Etcd: {Hosts: $H, Key: '${E}/a', User: u, Pass: '${PW}'}}";
    let values = |name: &str| {
        let all = [("N", "user"), ("P", "80"), ("H", "[h1, h2]"), ("E", "prod"), ("PW", "a$b")];
        all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let loader = Loader::new().use_variables(values);
    let config: ServerConfig = loader.parse(Format::Yaml, yaml).unwrap();
    assert_eq!((config.name(), service(&config)), ("user", "prod/a"));
    assert_eq!(config.registry().unwrap().hosts().len(), 2);
    assert_eq!(
        config.registry().unwrap().password().unwrap().reveal(),
        "a$b",
        "a value must not be expanded again"
    );
    let literal = "{Name: 'a$N', ListenOn: ':80'}";
    let config: ServerConfig = Loader::new().literal().parse(Format::Yaml, literal).unwrap();
    assert_eq!(config.name(), "a$N");
    let unset: ServerConfig = Loader::new()
        .use_env()
        .parse(Format::Yaml, "{Name: 'a${NO_SUCH_VARIABLE_7}', ListenOn: ':80'}")
        .unwrap();
    assert_eq!(unset.name(), "a");
}

/// A variable is refused in every field that the program reads. Other fields are ignored.
#[test]
fn a_variable_in_an_own_field_is_refused_if_the_field_is_read() {
    #[derive(Debug, Deserialize)]
    struct Config {
        #[serde(flatten)]
        server: ServerConfig,
        #[serde(rename = "DataSource", default)]
        data_source: String,
    }
    let read = |yaml: &str| go_zero::from_yaml::<Config>(yaml);
    let config = read("{Name: a, ListenOn: ':80', DataSource: db, Other: $B}").unwrap();
    assert_eq!((config.server.name(), &*config.data_source), ("a", "db"));
    let error = read("{Name: a, ListenOn: ':80', DataSource: 'root:$B@db'}").unwrap_err();
    assert!(error.to_string().starts_with("`DataSource`: it contains a variable"), "{error}");
    let error = read("{Name: a, ListenOn: ':$B', DataSource: db}").unwrap_err();
    assert!(
        error.to_string().contains("`ListenOn` cannot be used: it contains a variable"),
        "{error}"
    );
}

/// Another library may parse scalars by different rules.
#[test]
fn a_configuration_can_be_deserialized_by_other_libraries() {
    let read = |json: &str| serde_json::from_str::<ServerConfig>(json);
    let config = read(r#"{"NAME": "a", "ListenOn": ":80", "Etcd": {"Hosts": ["h"], "Key": "k"}}"#);
    assert_eq!(url(&config.unwrap()), "etcd://h?layout=go-zero");
    let error = read(r#"{"Name": "a${B}", "ListenOn": ":80"}"#).unwrap_err();
    assert!(error.to_string().contains("`Name` cannot be used: it contains a variable"), "{error}");
}

#[test]
fn no_error_shows_the_text_of_the_file() {
    for yaml in [
        "Etcd: s3cret",
        "Etcd:\n  Pass: [s3cret]",
        "Etcd:\n  ID: s3cret",
        "Etcd:\n  Pass: 's3cret",
        "ServiceRegistry: {Url: 'redis:s3cret@h'}",
        "ServiceRegistry: {Url: 'redis://app:s3cret/x@h'}",
        "Etcd: {Pass: s3cret$B}",
        "Pass: s3cret\nName: [",
        "{Name: a, ListenOn: ':80', Etcd: {Hosts: ['http://u:s3cret@h'], Key: a}}",
    ] {
        let yaml = if yaml.starts_with('{') {
            yaml.into()
        } else {
            format!("Name: a\nListenOn: h:1\n{yaml}")
        };
        let error = refused(&yaml);
        let shown = format!("{} {error:?}", error.chain());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn an_error_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user.yaml");
    let error = ServerConfig::read(&path).unwrap_err();
    assert!(error.to_string().ends_with(&format!("path=`{}`", path.display())), "{error}");
    fs::write(&path, "Name: a\nListenOn: x\n").unwrap();
    let error = ServerConfig::read(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().ends_with(&format!("path=`{}`", path.display())), "{error}");
    assert!(error.chain().to_string().contains("`ListenOn`"), "{}", error.chain());
    fs::write(&path, USER).unwrap();
    assert_eq!(ServerConfig::read(&path).unwrap().name(), "user.rpc");
    let other = folder.path().join("user.conf");
    fs::write(&other, USER).unwrap();
    let message = ServerConfig::read(&other).unwrap_err().chain().to_string();
    assert!(message.contains("`.yaml`, `.yml`, `.toml` or `.json`"), "{message}");
}

#[tokio::test]
async fn a_server_that_names_no_registry_is_not_registered() {
    let config = parse("{Name: a, ListenOn: 'h:80'}");
    let registration = config.register(([0, 0, 0, 0], 80).into()).await.unwrap();
    assert!(registration.is_none());
}

/// go-zero expects one key, whose value is the address.
#[cfg(feature = "etcd")]
#[tokio::test]
async fn a_server_on_etcd_is_registered_under_the_key_of_go_zero() {
    let server = registry_testbed::servers::Etcd::start().await.unwrap();
    let config = parse(&format!(
        "{{Name: a, ListenOn: '127.0.0.1:0', Etcd: {{Hosts: ['{}'], Key: /prod/a}}}}",
        server.endpoint().trim_start_matches("http://"),
    ));
    let registration = config.register(([127, 0, 0, 1], 4000).into()).await.unwrap().unwrap();
    let url = format!("{}//?layout=go-zero", server.url());
    let whole = service_registry::connect(&url).await.unwrap();
    let whole = whole.registry();
    let found = whole
        .load(&"prod/a".parse().unwrap(), &service_registry::store::CallOptions::DEFAULT)
        .await
        .unwrap();
    let id = registration.instance().id().clone();
    let found = found.records().find(id.as_str()).unwrap().instance();
    assert_eq!(found.address().port(), 4000);
    registration.stop().await.unwrap();
}
