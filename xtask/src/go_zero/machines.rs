//! Simulated machines, each a network namespace with virtual interfaces, and the addresses that servers publish there.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::apt;
use crate::command::{as_root, cargo, execute, find, output};
use crate::folders::target;

/// A machine: its name, and its interfaces.
///
/// `NAME ADDRESS..` is an interface with these addresses. With `!` in front of the name it has no carrier, and with `-`
/// it is down.
type Machine = (&'static str, &'static [&'static str]);

const MACHINES: [Machine; 11] = [
    ("a usual one", &["eth0 192.168.1.5/24 fd00::5/64"]),
    ("no network", &[]),
    (
        "Docker, first",
        &["docker0 172.17.0.1/16", "br-0af3c2d19e77 172.18.0.1/16", "eth0 192.168.1.5/24"],
    ),
    ("link-local, first", &["eth0 169.254.3.3/16", "eth1 10.2.2.2/24"]),
    ("IPv6 alone", &["eth0 fd00::9/64"]),
    ("a shared address on lo", &["lo 10.7.7.7/32", "eth0 192.168.1.5/24"]),
    ("a bridge for the lan", &["br-lan 192.168.1.5/24"]),
    ("other bridges, first", &["cni0 10.244.0.1/24", "lxcbr0 10.0.3.1/24", "eth0 192.168.1.5/24"]),
    (
        "a node of Kubernetes",
        &[
            "flannel.1 10.244.0.0/32",
            "cali0123456789a 10.9.0.1/32",
            "kube-ipvs0 10.96.0.1/32",
            "eth0 192.168.1.5/24",
        ],
    ),
    ("one down", &["-eth0 192.168.1.5/24", "eth1 10.1.1.1/24"]),
    ("a tunnel without a carrier, first", &["!tun0 10.8.0.2/24", "eth0 192.168.1.5/24"]),
];

const NAMESPACE: &str = "registry-advertise";
const ETCD: &str = "127.0.0.1:2379";

/// Returns a table of the addresses published on each machine, as JSON with one line for each row.
pub(super) fn run(program: &Path) -> Result<String> {
    if find("ip").is_none() {
        apt::install(&["iproute2"], &[])?;
    }
    execute(cargo().args([
        "build",
        "--package",
        "service-registry",
        "--example",
        "advertise",
        "--features",
        "serve",
    ]))?;
    let ours = target().join("debug/examples/advertise").canonicalize()?;
    let mut table = "[".to_owned();
    for (number, (name, interfaces)) in MACHINES.iter().enumerate() {
        let seen = Namespace::with(interfaces).and_then(|_namespace| publish(program, &ours));
        let (addresses, rows) = seen.with_context(|| format!("on the machine `{name}`"))?;
        println!("{name}: {}", interfaces.join(", "));
        let start = if number == 0 { "" } else { "," };
        write!(
            table,
            "{start}\n{{\"machine\":{},\"addresses\":{addresses},\"rows\":[",
            json!(name)
        )?;
        for (number, row) in rows.iter().enumerate() {
            let text = |field: &str| row[field].as_str().unwrap_or("refused").to_owned();
            println!(
                "  {:<13} {:<11} go-zero {:<22} here {}",
                text("listen_on"),
                text("pod_ip"),
                text("go_zero"),
                text("here")
            );
            let end = if number + 1 == rows.len() { "]}" } else { "," };
            write!(table, "\n {row}{end}")?;
        }
    }
    Ok(table + "\n]")
}

/// A network namespace with an etcd. Dropping it removes both.
struct Namespace {
    etcd: Child,
    _folder: tempfile::TempDir,
}

impl Namespace {
    fn with(interfaces: &[&str]) -> Result<Self> {
        // Removes the namespace of an interrupted run.
        let _ = output(as_root("ip")?.args(["netns", "delete", NAMESPACE]));
        ip(&format!("netns add {NAMESPACE}"))?;
        ip(&format!("-n {NAMESPACE} link set lo up"))?;
        for (index, interface) in interfaces.iter().enumerate() {
            make(index, interface)?;
        }
        let folder = tempfile::tempdir()?;
        let mut etcd = as_root("ip")?;
        etcd.args(["netns", "exec", NAMESPACE, "etcd", "--data-dir"]).arg(folder.path());
        let etcd =
            etcd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot run etcd")?;
        Ok(Self { etcd, _folder: folder })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        if let Ok(mut ip) = as_root("ip") {
            let _ = output(ip.args(["netns", "delete", NAMESPACE]));
        }
    }
}

/// Creates the interface of a description. `at` is its number.
fn make(at: usize, interface: &str) -> Result<()> {
    let mut words = interface.split(' ');
    let name = words.next().context("the interface has no name")?;
    let (is_up, has_carrier) = (!name.starts_with('-'), !name.starts_with('!'));
    let name = name.trim_start_matches(['-', '!']);
    let ip_there = |command: &str| ip(&format!("-n {NAMESPACE} {command}"));
    let other = format!("veth-{at}");
    if name != "lo" {
        ip_there(&format!("link add {name} type veth peer name {other}"))?;
    }
    for address in words {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        ip_there(&format!("addr add {address} dev {name}{nodad}"))?;
    }
    if name != "lo" && is_up {
        ip_there(&format!("link set {name} up"))?;
        if has_carrier {
            ip_there(&format!("link set {other} up"))?;
        }
    }
    Ok(())
}

fn ip(command: &str) -> Result<()> {
    output(as_root("ip")?.args(command.split(' '))).map(drop)
}

/// Returns the addresses of the machine, and the rows of published addresses.
fn publish(program: &Path, ours: &Path) -> Result<(Value, Vec<Value>)> {
    let lines = |program: &Path, arguments: &[&str]| -> Result<Vec<Value>> {
        let mut command = as_root("ip")?;
        command.args(["netns", "exec", NAMESPACE]).arg(program).args(arguments);
        let lines = output(&mut command)?;
        Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    let theirs = lines(program, &["advertise", ETCD])?;
    let mut ours = lines(ours, &[])?.into_iter();
    let mut addresses =
        ours.next().context("the example printed no addresses")?["addresses"].take();
    // The system assigns link-local addresses at random, and neither side publishes them.
    let is_random =
        |address: &Value| address["ip"].as_str().is_some_and(|ip| ip.starts_with("fe80"));
    addresses
        .as_array_mut()
        .context("the addresses are not a list")?
        .retain(|address| !is_random(address));
    let ours: Vec<_> = ours.collect();
    if ours.len() != theirs.len() {
        bail!(
            "the tables have {} and {} rows: both programs need the same",
            theirs.len(),
            ours.len()
        );
    }
    let rows = theirs.into_iter().zip(ours).map(|(theirs, ours)| {
        if (&theirs["listen_on"], &theirs["pod_ip"]) != (&ours["listen_on"], &ours["pod_ip"]) {
            bail!("the rows differ in `listen_on` or `pod_ip`: {theirs}, {ours}");
        }
        if (&theirs["ipv4"], &theirs["ipv6"]) != (&ours["ipv4"], &ours["ipv6"]) {
            bail!("the listeners accept different IP versions: {theirs}, {ours}");
        }
        Ok(json!({
            "listen_on": theirs["listen_on"],
            "pod_ip": theirs["pod_ip"],
            "go_zero": theirs["address"],
            "here": ours["address"],
            "ipv6": ours["ipv6"],
        }))
    });
    Ok((addresses, rows.collect::<Result<_>>()?))
}
