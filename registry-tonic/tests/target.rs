//! Tests of the forms of a target and their meaning.

use proptest::prelude::*;
use registry_core::{Error, ErrorKind, ServiceName, Target};
use registry_tonic::ChannelTarget;

fn parse(text: &str) -> ChannelTarget {
    text.parse().unwrap_or_else(|error: Error| panic!("{text}: {}", error.chain()))
}

/// Returns the registry and the service of a target.
fn service(text: &str) -> (String, String) {
    match parse(text) {
        ChannelTarget::Service { registry, service } => (registry.to_string(), service.to_string()),
        ChannelTarget::Direct(_) => panic!("{text} names no service"),
    }
}

fn refusal(text: &str) -> String {
    let error = text.parse::<ChannelTarget>().expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
    error.chain().to_string()
}

#[test]
fn all_forms_of_a_go_zero_target_name_the_same_service() {
    let expected = ("etcd://h1:2379,h2:2379?layout=go-zero".to_owned(), "user.rpc".to_owned());
    for text in [
        "etcd:///h1:2379,h2:2379?key=user.rpc",
        "etcd:////h1:2379,h2:2379/?key=user.rpc",
        "etcd://h1:2379,h2:2379/user.rpc",
        "etcd://h1:2379,h2:2379//user.rpc/",
        "discov://h1:2379,h2:2379/user.rpc",
        "discov:///h1:2379,h2:2379?key=user.rpc",
        "ETCD:///h1:2379,h2:2379?key=user%2Erpc",
        // The registry URL with the same meaning.
        "etcd://h1:2379,h2:2379?layout=go-zero&service=user.rpc",
    ] {
        assert_eq!(service(text), expected, "{text}");
        assert_eq!(parse(text).to_string(), "etcd:///h1:2379,h2:2379?key=user.rpc", "{text}");
    }
    assert_eq!(service("etcd://[::1]:2379/a").0, "etcd://[::1]:2379?layout=go-zero");
}

#[test]
fn key_is_escaped_as_a_query() {
    let text = "etcd:///h:2379?key=prod%2Forder+one%2Btwo";
    assert_eq!(service(text).1, "prod/order one+two");
    assert_eq!(parse(text).to_string(), text);
    // In a path `+` is a literal plus.
    assert_eq!(service("etcd://h/prod/a+b").1, "prod/a+b");
}

#[test]
fn leading_slash_of_a_key_is_kept_if_go_zero_keeps_it() {
    let (registry, name) = service("etcd:///h:2379?key=%2Fgrpc%2Fsvc");
    assert_eq!((&*registry, &*name), ("etcd://h:2379//?layout=go-zero", "grpc/svc"));
    let twice = "etcd:///h:2379?key=%2F%2Fsvc";
    assert_eq!(service(twice).0, "etcd://h:2379///?layout=go-zero");
    assert_eq!(parse(twice).to_string(), twice);
    for trimmed in ["etcd://h:2379//grpc/svc", "discov://h:2379/%2Fgrpc/svc%2F"] {
        let (registry, name) = service(trimmed);
        assert_eq!((&*registry, &*name), ("etcd://h:2379?layout=go-zero", "grpc/svc"));
    }
}

#[test]
fn fixed_addresses_are_kept_in_order() {
    let expected = ["a:1", "[::1]:2", "10.0.0.1:3"].map(|text| text.parse().unwrap());
    for text in [
        "direct:///a:1,[::1]:2,10.0.0.1:3",
        "direct:///,a:1,,[::1]:2,10.0.0.1:3/",
        "Direct://in-front/a:1,[::1]:2,10.0.0.1:3",
    ] {
        assert_eq!(parse(text), ChannelTarget::Direct(expected.to_vec()));
    }
    assert_eq!(parse("direct:///a:1,,b:2,").to_string(), "direct:///a:1,b:2");
}

/// gRPC's own forms of targets, which a go-zero client accepts as well.
#[test]
fn an_address_alone_is_a_target() {
    for (text, address) in [
        ("10.0.0.1:8080", "10.0.0.1:8080"),
        ("[::1]:8080", "[::1]:8080"),
        ("user-svc.prod:8080", "user-svc.prod:8080"),
        ("passthrough:///user-svc:8080", "user-svc:8080"),
        ("passthrough://x/user-svc:8080", "user-svc:8080"),
        ("passthrough:user-svc:8080", "user-svc:8080"),
        ("dns:///user-svc:8080", "user-svc:8080"),
        ("dns:user-svc:8080", "user-svc:8080"),
        ("dns:///[::1]:8080", "[::1]:8080"),
        ("dns:///user-svc", "user-svc:443"),
        ("DNS:///user-svc", "user-svc:443"),
    ] {
        assert_eq!(parse(text), ChannelTarget::Direct(vec![address.parse().unwrap()]), "{text}");
    }
}

#[test]
fn url_of_a_registry_names_the_service_as_an_option() {
    for (text, registry, name) in [
        ("mem://?service=user.rpc", "mem://", "user.rpc"),
        ("redis://h/0?prefix=p&service=user.rpc", "redis://h/0?prefix=p", "user.rpc"),
        ("etcd://h:2379/prod?layout=native&service=a", "etcd://h:2379/prod?layout=native", "a"),
        ("etcd://h/prod?service=a%2Fb", "etcd://h/prod", "a/b"),
        ("etcds://h?ca=/ca.pem&key=/k.pem&service=a", "etcds://h?ca=/ca.pem&key=/k.pem", "a"),
        ("redis+cluster://h1,h2?service=a&ttl=5s", "redis+cluster://h1,h2?ttl=5s", "a"),
    ] {
        assert_eq!(service(text), (registry.to_owned(), name.to_owned()));
    }
    // A target that go-zero cannot express is displayed as a URL.
    for text in [
        "etcd://h/prod?layout=go-zero&service=a",
        "etcd://h?layout=go-zero&ttl=5s&service=a",
        "etcds://h?layout=go-zero&service=a",
    ] {
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn invalid_target_is_rejected_with_a_hint() {
    for (text, hint) in [
        ("", "not a channel target"),
        ("10.0.0.1", "not a channel target"),
        ("user-svc", "not a channel target"),
        ("a:1,b:2", "not a channel target"),
        ("mem://", "not a channel target"),
        ("mem://?service=", "the name is empty"),
        ("dns://8.8.8.8/h:80", "`dns:///name:port`"),
        ("dns:///", "host:port"),
        ("passthrough:///h", "host:port"),
        ("unix:///run/user.sock", "not a channel target"),
        ("direct://a:1", "three slashes"),
        ("etcd:///h:2379", "not a channel target"),
        ("etcd:///?key=a", "not a channel target"),
        ("etcd:///h:2379/x?key=a", "not a channel target"),
        ("etcd:///h:2379?key=", "must not be empty"),
        ("etcd:///h:2379?key=a%2F", "or end with `/`"),
        ("etcd:///h:2379?key=a&dial=1", "no option but `key`"),
        ("etcd:///h:2379?key=a&ttl=5s", "no option but `key`"),
        ("etcd://h:2379/a?layout=go-zero", "has no options"),
        ("etcd://h:2379/a?key=b", "has no options"),
        ("etcd://h:2379", "must not be empty"),
        ("etcd://h:x/a", "the hosts of the URL are not"),
        ("etcd:///h:2379?key=%FF", "UTF-8"),
        ("direct:///", "not a channel target"),
        ("direct:///,", "not a channel target"),
        ("direct:///a:1,b", "host:port"),
        ("direct:///0.0.0.0:1", "others cannot dial"),
        ("k8s://default/user:8080", "`dns:///service.namespace:port`"),
        ("consul://h:8500/user", "`consul://` targets are not supported"),
        ("nacos://h:8848/user", "`nacos://` targets are not supported"),
        ("polaris://h/user", "`polaris://` targets are not supported"),
    ] {
        let message = refusal(text);
        assert!(message.contains(hint), "{text}: {message}");
    }
}

#[test]
fn password_is_passed_on_and_never_shown() {
    for text in ["etcd://app:s3cret@h:2379/a", "etcd:///app:s3cret@h:2379?key=a"] {
        let target = parse(text);
        assert_eq!(target.to_string(), "etcd:///app:***@h:2379?key=a");
        assert!(!format!("{target:?}").contains("s3cret"));
        let ChannelTarget::Service { registry, .. } = target else { panic!("{text}") };
        assert_eq!(registry.password().unwrap().reveal(), "s3cret");
    }
    for text in
        ["etcd://app:p?s3cret@h/a", "redis://app:s3cret@h", "app:s3cret@h", "etcd://a:s3cret"]
    {
        assert!(!refusal(text).contains("s3cret"), "{text}");
    }
}

fn keys() -> impl Strategy<Value = String> {
    // Characters of names, mostly those with a meaning in URLs.
    proptest::string::string_regex("/{0,2}[a-z%+&=?#/ :@,.~\u{e9}\u{4e2d}]{0,12}[a-z%+&=?#]")
        .expect("the pattern is invalid")
}

fn hosts() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["h", "h1:2379,h2:2379", "[::1]:2379", "us%2Fer@h:1"])
        .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn displayed_go_zero_target_parses_back_to_itself(hosts in hosts(), key in keys()) {
        let (slashes, service) = ServiceName::from_key(&key).unwrap();
        let registry: Target = format!("etcd://{hosts}/{slashes}?layout=go-zero").parse().unwrap();
        let target = ChannelTarget::Service { registry, service };
        prop_assert!(target.to_string().starts_with("etcd:///"));
        prop_assert_eq!(parse(&target.to_string()), target);
    }

    #[test]
    fn displayed_registry_target_parses_back_to_itself(
        hosts in hosts(),
        service in keys(),
        rest in proptest::sample::select(vec!["", "/", "/0", "/a%3Fb%25/", "/p?layout=native&x=%26%23"]),
        scheme in proptest::sample::select(vec!["redis", "etcds", "mem", "etcd"]),
    ) {
        let registry: Target = format!("{scheme}://{hosts}{rest}").parse().unwrap();
        let service = service.trim_start_matches('/').parse().unwrap();
        let target = ChannelTarget::Service { registry, service };
        prop_assert_eq!(parse(&target.to_string()), target);
    }

    #[test]
    fn parsing_arbitrary_text_never_panics(text in "\\PC{0,40}", scheme in "(etcd|discov|direct|mem|k8s)") {
        let _ = text.parse::<ChannelTarget>();
        let _ = format!("{scheme}://{text}").parse::<ChannelTarget>();
    }
}
