use super::*;
use crate::ErrorKind;
use std::time::Duration;
use tokio::time::timeout;

const MOMENT: Duration = Duration::from_secs(30);

const LAN: [&str; 2] = ["eth0", "10.0.0.5"];

/// A listener on IPv4 only.
const V4: ([u8; 4], u16) = ([0, 0, 0, 0], 9000);

/// A listener on both families, as `ListenOn::bind` returns it for any unspecified address.
const BOTH: ([u16; 8], u16) = ([0; 8], 9000);

/// Returns a machine with these pairs of interface name and address; `lo` is the loopback interface.
fn machine(pod_ip: Option<&str>, addresses: &[[&str; 2]]) -> Machine {
    let address = |[name, ip]: &[&str; 2]| InterfaceAddress {
        interface: (*name).to_owned(),
        ip: ip.parse().unwrap(),
        loopback: *name == "lo",
    };
    Machine {
        pod_ip: pod_ip.map(str::to_owned),
        addresses: addresses.iter().map(address).collect(),
    }
}

fn advertise(listen_on: &str) -> Advertise {
    Advertise::new(listen_on.parse().unwrap())
}

/// Returns what a server on both families with the bound port 9000 publishes on `machine`.
fn published(advertise: &Advertise, machine: &Machine) -> String {
    advertise.address_on(machine, BOTH.into()).unwrap().to_string()
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error.chain().to_string()
}

/// The table of go-zero's `figureOutListenOn`, without the addresses that others cannot dial.
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
        // go-zero publishes `[::]:8080` itself.
        ("[::]:8080", "10.0.0.5:8080", "10.9.9.9:8080"),
        ("0.0.0.0:0", "10.0.0.5:9000", "10.9.9.9:9000"),
        ("127.0.0.1:0", "127.0.0.1:9000", "127.0.0.1:9000"),
    ] {
        let advertise = advertise(listen_on);
        assert_eq!(published(&advertise, &bare), without, "{listen_on}");
        assert_eq!(published(&advertise, &pod), with, "{listen_on}, in a pod");
    }
}

/// Regression: a server on `0.0.0.0` published the IPv6 address of its pod but listened on IPv4 only, so no caller
/// could reach it.
#[test]
fn an_ipv6_pod_ip_is_published_only_if_the_listener_accepts_ipv6() {
    for pod_ip in ["2001:db8::9", "[2001:db8::9]"] {
        let pod = machine(Some(pod_ip), &[LAN]);
        for listen_on in ["0.0.0.0:8080", ":8080", "[::]:8080"] {
            let advertise = advertise(listen_on);
            assert_eq!(published(&advertise, &pod), "[2001:db8::9]:8080", "{listen_on}");
            let message = refusal(advertise.address_on(&pod, V4.into()));
            assert!(message.contains("listens on IPv4 only"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_wildcard_listens_on_both_families() {
    for text in ["0.0.0.0:0", ":0", "[::]:0"] {
        let listener = text.parse::<ListenOn>().unwrap().bind().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            tokio::net::TcpStream::connect((ip, port)).await.unwrap();
            timeout(MOMENT, listener.accept()).await.unwrap().unwrap();
        }
        let taken: ListenOn = format!("0.0.0.0:{port}").parse().unwrap();
        let error = taken.bind().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{text}");
    }
    let one: ListenOn = "127.0.0.1:0".parse().unwrap();
    assert!(one.bind().await.unwrap().local_addr().unwrap().is_ipv4());
}

#[test]
fn listen_on_is_displayed_with_its_host_and_malformed_text_is_refused() {
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
fn loopback_container_and_link_local_interfaces_are_skipped() {
    let skipped = [
        ["lo", "127.0.0.1"],
        ["lo", "10.7.7.7"],
        ["docker0", "172.17.0.1"],
        ["docker_gwbridge", "172.18.0.1"],
        ["br-0af3c2d19e77", "172.18.0.1"],
        ["veth12ab", "172.19.0.1"],
        ["virbr0", "192.168.122.1"],
        ["cni0", "10.244.0.1"],
        ["cni-podman0", "10.88.0.1"],
        ["podman0", "10.88.0.1"],
        ["lxcbr0", "10.0.3.1"],
        ["flannel.1", "10.244.0.0"],
        ["cali0123456789a", "10.9.0.1"],
        ["kube-ipvs0", "10.96.0.1"],
        ["eth9", "169.254.3.4"],
    ];
    let any = advertise(":8080");
    for usable in ["brx", "br-lan", "br-ex", "bond0", "en0", "eth0.7"] {
        let machine = machine(None, &[&skipped[..], &[[usable, "10.0.0.7"]]].concat());
        assert_eq!(published(&any, &machine), "10.0.0.7:8080", "{usable}");
    }
    for interfaces in [&skipped[..], &skipped[..1], &[]] {
        let message = refusal(any.address_on(&machine(None, interfaces), BOTH.into()));
        assert!(message.contains("set `AdvertiseOn`"), "{message}");
    }
}

#[test]
fn ipv4_is_preferred_and_ipv6_needs_a_listener_on_ipv6() {
    let v6 = ["eth0", "2001:db8::5"];
    let both = machine(None, &[["eth0", "fe80::1"], v6, LAN]);
    let one = machine(None, &[["lo", "::1"], ["eth0", "fe80::1"], v6]);
    for listen_on in ["[::]:80", "0.0.0.0:80", ":80"] {
        let advertise = advertise(listen_on);
        assert_eq!(published(&advertise, &both), "10.0.0.5:80");
        assert_eq!(published(&advertise, &one), "[2001:db8::5]:80");
        assert_eq!(advertise.address_on(&both, V4.into()).unwrap().as_str(), "10.0.0.5:80");
        let message = refusal(advertise.address_on(&one, V4.into()));
        assert!(message.contains("listen on IPv6 too"), "{message}");
    }
    let picked = advertise("[::]:80").with_cidr("2001:db8::/32").unwrap();
    assert_eq!(published(&picked, &both), "[2001:db8::5]:80");
}

#[test]
fn interface_and_cidr_select_among_all_addresses() {
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
    let message = refusal(nowhere.address_on(&machine, BOTH.into()));
    assert!(message.contains("interface=`eth0`, cidr=`192.168.0.0/16`"), "{message}");
    let message =
        refusal(advertise("10.0.0.5:80").with_interface("eth1").address_on(&machine, BOTH.into()));
    assert!(message.contains("listens on all interfaces"), "{message}");
    refusal(any.with_cidr("10.0.0.0/33"));
}

#[test]
fn a_configured_address_overrides_everything_else() {
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
        let message = refusal(stated.address_on(&lonely, BOTH.into()));
        assert!(message.contains("others can dial"), "{host}: {message}");
        let pod = machine(Some(host.trim_matches(['[', ']'])), &[LAN]);
        refusal(advertise(":80").address_on(&pod, BOTH.into()));
    }
    for listen_on in ["169.254.1.1:80", "[fe80::1]:80"] {
        refusal(advertise(listen_on).address_on(&lonely, BOTH.into()));
    }
    let message = refusal(advertise(":80").address_on(&machine(Some("here"), &[LAN]), BOTH.into()));
    assert!(message.contains("`POD_IP`"), "{message}");
}

/// The file holds recorded addresses that go-zero and this crate published in network namespaces; `cargo xtask go-zero`
/// records them again. They may differ only where others cannot dial go-zero's address, or only a bridge has it.
#[test]
fn published_addresses_match_go_zero_unless_its_address_cannot_be_dialled() {
    let machines: serde_json::Value = serde_json::from_str(include_str!("published.json")).unwrap();
    let text = |value: &serde_json::Value, field: &str| value[field].as_str().map(str::to_owned);
    for described in machines.as_array().unwrap() {
        let addresses = described["addresses"].as_array().unwrap().iter().map(|address| {
            let (interface, ip) = (text(address, "interface"), text(address, "ip"));
            InterfaceAddress {
                interface: interface.unwrap(),
                ip: ip.unwrap().parse().unwrap(),
                loopback: address["loopback"].as_bool().unwrap(),
            }
        });
        let addresses: Vec<_> = addresses.collect();
        for row in described["rows"].as_array().unwrap() {
            let pod_ip = text(row, "pod_ip").filter(|pod_ip| !pod_ip.is_empty());
            let machine = Machine { pod_ip: pod_ip.clone(), addresses: addresses.clone() };
            let bound = if row["ipv6"] == true { BOTH.into() } else { V4.into() };
            let advertise = advertise(&text(row, "listen_on").unwrap());
            let here = advertise.address_on(&machine, bound).ok();
            let here = here.map(|address| address.to_string());
            let shown = format!("on the machine `{}`: {row}", described["machine"]);
            assert_eq!(here, text(row, "here"), "{shown}");
            let theirs = text(row, "go_zero").unwrap();
            if here.as_ref() != Some(&theirs) {
                let is_published = |address: &InterfaceAddress| {
                    !is_bridge(&address.interface) && theirs == format!("{}:8080", address.ip)
                };
                let published = HostPort::parse(&theirs).filter(|_| Address::new(&theirs).is_ok());
                let can_be_dialled =
                    published.is_some_and(|published| publish(&published.host, 8080).is_ok());
                let is_of_the_network = addresses.iter().any(is_published);
                assert!(!can_be_dialled || !is_of_the_network, "{shown}");
            }
        }
    }
}

#[test]
fn reading_the_machine_finds_its_loopback_interface() {
    let addresses = Machine::read().unwrap().addresses;
    let is_loopback = |address: &InterfaceAddress| address.ip.is_loopback() && address.loopback;
    assert!(addresses.iter().any(is_loopback), "{addresses:?}");
}
