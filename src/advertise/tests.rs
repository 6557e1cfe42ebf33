use super::*;

const LAN: [&str; 2] = ["eth0", "10.0.0.5"];

/// A machine with these interfaces, each a name and its address.
fn machine(pod_ip: Option<&str>, interfaces: &[[&str; 2]]) -> Machine {
    let interface = |[name, ip]: &[&str; 2]| ((*name).to_owned(), ip.parse().unwrap());
    Machine {
        pod_ip: pod_ip.map(str::to_owned),
        interfaces: interfaces.iter().map(interface).collect(),
    }
}

fn advertise(listen_on: &str) -> Advertise {
    Advertise::new(listen_on.parse().unwrap())
}

/// What is published on `machine`, where 9000 was bound.
fn published(advertise: &Advertise, machine: &Machine) -> String {
    advertise.address_on(machine, 9000).unwrap().to_string()
}

fn refusal<T: fmt::Debug>(outcome: Result<T>) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error.chain().to_string()
}

/// The table of go-zero's `figureOutListenOn`, as far as others can dial what it publishes.
#[test]
fn the_address_is_the_one_that_go_zero_publishes() {
    let lan = [["lo", "127.0.0.1"], LAN, ["eth1", "192.168.1.5"]];
    let (bare, pod) = (machine(None, &lan), machine(Some("10.9.9.9"), &lan));
    for (listen_on, without, with) in [
        ("192.168.1.5:8081", "192.168.1.5:8081", "192.168.1.5:8081"),
        ("localhost:8080", "localhost:8080", "localhost:8080"),
        ("127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080"),
        ("[2001:db8::5]:8080", "[2001:db8::5]:8080", "[2001:db8::5]:8080"),
        ("0.0.0.0:8080", "10.0.0.5:8080", "10.9.9.9:8080"),
        (":8080", "10.0.0.5:8080", "10.9.9.9:8080"),
        // go-zero publishes this one as it stands.
        ("[::]:8080", "10.0.0.5:8080", "10.9.9.9:8080"),
        ("0.0.0.0:0", "10.0.0.5:9000", "10.9.9.9:9000"),
        ("127.0.0.1:0", "127.0.0.1:9000", "127.0.0.1:9000"),
    ] {
        let advertise = advertise(listen_on);
        assert_eq!(published(&advertise, &bare), without, "{listen_on}");
        assert_eq!(published(&advertise, &pod), with, "{listen_on}, in a pod");
    }
    let pod = machine(Some("2001:db8::9"), &lan);
    assert_eq!(published(&advertise("[::]:8080"), &pod), "[2001:db8::9]:8080");
}

#[test]
fn listen_on_is_displayed_as_a_listener_binds_it() {
    for (text, bound) in [
        (":8080", "0.0.0.0:8080"),
        ("0.0.0.0:0", "0.0.0.0:0"),
        ("[::]:8080", "[::]:8080"),
        ("[0::0]:8080", "[::]:8080"),
        ("[::1]:80", "[::1]:80"),
        ("localhost:80", "localhost:80"),
    ] {
        assert_eq!(text.parse::<ListenOn>().unwrap().to_string(), bound);
    }
    let bad = [
        "", "8080", "h", ":", ":::8080", "::8080", "a:b:1", "[::1]", "[h]:1", "h:65536", "h:+1",
        "a b:1", "[::1]x:1",
    ];
    for bad in bad {
        refusal(bad.parse::<ListenOn>());
    }
}

#[test]
fn an_interface_is_usable_if_others_reach_it() {
    let skipped = [
        ["lo", "127.0.0.1"],
        ["docker0", "172.17.0.1"],
        ["br-0af3", "172.18.0.1"],
        ["veth12ab", "172.19.0.1"],
        ["virbr0", "192.168.122.1"],
        ["eth9", "169.254.3.4"],
    ];
    let any = advertise(":8080");
    let usable = machine(None, &[&skipped[..], &[["brx", "10.0.0.7"]]].concat());
    assert_eq!(published(&any, &usable), "10.0.0.7:8080");
    for interfaces in [&skipped[..], &skipped[..1], &[]] {
        let message = refusal(any.address_on(&machine(None, interfaces), 8080));
        assert!(message.contains("set `AdvertiseOn`"), "{message}");
    }
}

#[test]
fn ipv6_comes_after_ipv4_and_only_where_the_server_listens_on_it() {
    let v6 = ["eth0", "2001:db8::5"];
    let both = machine(None, &[["eth0", "fe80::1"], v6, LAN]);
    let one = machine(None, &[["lo", "::1"], ["eth0", "fe80::1"], v6]);
    assert_eq!(published(&advertise("[::]:80"), &both), "10.0.0.5:80");
    assert_eq!(published(&advertise("[::]:80"), &one), "[2001:db8::5]:80");
    for listen_on in ["0.0.0.0:80", ":80"] {
        assert_eq!(published(&advertise(listen_on), &both), "10.0.0.5:80");
        let message = refusal(advertise(listen_on).address_on(&one, 80));
        assert!(message.contains("listen on `[::]`"), "{message}");
    }
    let picked = advertise("[::]:80").with_cidr("2001:db8::/32").unwrap();
    assert_eq!(published(&picked, &both), "[2001:db8::5]:80");
}

#[test]
fn an_interface_and_a_network_choose_among_all_addresses() {
    let wan = ["eth1", "192.168.1.5"];
    let bridge = ["docker0", "172.17.0.1"];
    let machine = machine(Some("10.9.9.9"), &[["lo", "127.0.0.1"], LAN, wan, bridge]);
    let any = advertise("0.0.0.0:80");
    let on = |name: &str| any.clone().with_interface(name);
    assert_eq!(published(&on("eth1"), &machine), "192.168.1.5:80");
    assert_eq!(published(&on("docker0"), &machine), "172.17.0.1:80");
    assert_eq!(published(&on("lo"), &machine), "127.0.0.1:80");
    let within = any.clone().with_cidr("192.168.0.0/16").unwrap();
    assert_eq!(published(&within, &machine), "192.168.1.5:80");

    let nowhere = within.with_interface("eth0");
    let message = refusal(nowhere.address_on(&machine, 80));
    assert!(message.contains("interface=`eth0`, cidr=`192.168.0.0/16`"), "{message}");
    let message = refusal(advertise("10.0.0.5:80").with_interface("eth1").address_on(&machine, 80));
    assert!(message.contains("listens on all it has"), "{message}");
    refusal(any.with_cidr("10.0.0.0/33"));
}

#[test]
fn a_configured_address_wins() {
    let machine = machine(Some("10.9.9.9"), &[LAN]);
    for (stated, expected) in [
        ("user.example.com:443", "user.example.com:443"),
        ("user.example.com", "user.example.com:80"),
        ("203.0.113.7:0", "203.0.113.7:80"),
        ("[2001:db8::7]:443", "[2001:db8::7]:443"),
        ("[2001:db8::7]", "[2001:db8::7]:80"),
        ("2001:db8::7", "[2001:db8::7]:80"),
    ] {
        for listen_on in ["0.0.0.0:80", "10.0.0.5:80"] {
            let advertise = advertise(listen_on).with_interface("eth7");
            let advertise = advertise.with_address(stated).unwrap();
            assert_eq!(published(&advertise, &machine), expected);
        }
    }
    for bad in ["", ":80", "a:b", "[::1", "h:99999"] {
        refusal(advertise(":80").with_address(bad));
    }
}

#[test]
fn an_undialable_address_is_not_published() {
    let lonely = machine(None, &[LAN]);
    let hosts = [
        "0.0.0.0",
        "[::]",
        "169.254.1.1",
        "[fe80::1]",
        "224.0.0.1",
        "[ff02::1]",
        "255.255.255.255",
        "[::ffff:169.254.1.1]",
        "[::ffff:0.0.0.0]",
    ];
    for host in hosts {
        let stated = advertise(":80").with_address(host).unwrap();
        let message = refusal(stated.address_on(&lonely, 80));
        assert!(message.contains("others can dial"), "{host}: {message}");
        let pod = machine(Some(host.trim_matches(['[', ']'])), &[LAN]);
        refusal(advertise(":80").address_on(&pod, 80));
    }
    for listen_on in ["169.254.1.1:80", "[fe80::1]:80"] {
        refusal(advertise(listen_on).address_on(&lonely, 80));
    }
    let message = refusal(advertise(":80").address_on(&machine(Some("here"), &[LAN]), 80));
    assert!(message.contains("`POD_IP`"), "{message}");
}

#[test]
fn a_machine_has_a_loopback() {
    let interfaces = Machine::read().unwrap().interfaces;
    assert!(interfaces.iter().any(|(_, ip)| ip.is_loopback()), "{interfaces:?}");
}
