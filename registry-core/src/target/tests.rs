use super::*;

fn parse(url: &str) -> Target {
    url.parse().unwrap()
}

#[test]
fn the_urls_of_all_stores_parse() {
    let mem = parse("mem://");
    assert_eq!((mem.scheme(), mem.hosts().len(), mem.path()), ("mem", 0, ""));

    let etcd = parse("etcd://h1:2379,[::1]:2380,h3/prod/eu?ttl=10s&layout=go-zero");
    let hosts: Vec<_> = etcd.hosts().iter().map(|host| host.authority(2379)).collect();
    assert_eq!(hosts, ["h1:2379", "[::1]:2380", "h3:2379"]);
    assert_eq!((etcd.path(), etcd.option("layout")), ("prod/eu", Some("go-zero")));
    assert_eq!(etcd.ttl(), Some(Duration::from_secs(10)));

    let redis = parse("Redis://us%40er:p%2Fw%3A@h:6379/0?prefix=a%26b");
    assert_eq!((redis.scheme(), redis.user()), ("redis", Some("us@er")));
    assert_eq!(redis.password().unwrap().reveal(), "p/w:");
    assert_eq!((redis.path(), redis.option("prefix")), ("0", Some("a&b")));
    assert_eq!(parse("redis+sentinel://s1:26379,s2:26379/mymaster").scheme(), "redis+sentinel");
    assert_eq!(parse("redis://:pw@h").user(), None);
}

#[test]
fn a_password_is_never_displayed() {
    let target = parse("redis://app:s3cret@h");
    assert!(!format!("{target} {target:?}").contains("s3cret"), "{target:?}");
    let careless = [
        "redis://app:s3cret/x@h",
        "redis://app:s3cret?x@h",
        "app:s3cret@h",
        "r s3cret://",
        "redis://s3cret:@@h:1s3cret",
        // The part before the `/` or `?` could be a host and a port.
        "redis://app:12/s3cret@h",
        "redis://app:12/s3cret%40h/x@h",
        "etcd://app:12?s3cret@h",
        "etcd://app:12/%2Fs3cret?x@h/prod",
        "etcd://app:12?ttl=s3cret@h",
        "etcd://app/s3cret@h",
        "etcd://app:s3cret%ff@h",
    ];
    for careless in careless {
        let error = careless.parse::<Target>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn a_displayed_url_parses_to_the_same_target() {
    for url in [
        "mem://",
        "etcd://h1:2379,[::1]/prod/eu?layout=go-zero&ttl=1m 5s",
        "etcd://h//?layout=go-zero",
        "etcds://h/a%40b?ca=/etc/x%40y.pem",
        "redis://us%40%2Fer@h/a%3Fb%25?a%26b%3D=c%26d=e:/",
    ] {
        assert_eq!(parse(&parse(url).to_string()), parse(url), "{url}");
    }
    let shown = "etcds://h/prod/eu?ca=/etc/ca.pem&ttl=10s";
    assert_eq!(parse(shown).to_string(), shown);
}

#[test]
fn an_option_is_taken_once() {
    let mut target = parse("mem://?service=a%26b&x=1");
    assert_eq!(target.take_option("service").as_deref(), Some("a&b"));
    assert_eq!(target.take_option("service"), None);
    assert_eq!(target, parse("mem://?x=1"));
}

#[test]
fn a_ttl_out_of_range_is_invalid_and_the_error_names_the_range() {
    for bad in ["0s", "99ms", "1y", "1day 1ms", "10", "x", ""] {
        let error = format!("mem://?ttl={bad}").parse::<Target>().unwrap_err();
        let message = "option `ttl` must be 100ms to 1day, such as `10s`";
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), format!("{message}, got=`{bad}`"));
    }
    assert_eq!(parse("mem://?ttl=100ms").ttl(), Some(MIN_TTL));
    assert_eq!(parse("mem://?ttl=1day").ttl(), Some(MAX_TTL));
}

#[test]
fn an_error_names_the_wrong_part() {
    let bad = [
        "",
        "mem",
        "://h",
        "etcd://h:0",
        "etcd://h:x",
        "etcd://h,,i",
        "etcd://[::1",
        "etcd://[x]:1",
        "etcd://h?a=1&a=2",
    ];
    for bad in bad {
        assert_eq!(bad.parse::<Target>().unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
    let error = parse("redis://h?prefx=a").allow_options(&["prefix"]).unwrap_err();
    assert_eq!(error.to_string(), "unknown option `prefx` of redis://, known are: ttl, prefix");
}
