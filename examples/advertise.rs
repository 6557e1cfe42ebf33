//! The address that a server publishes on this machine: `cargo run --example advertise --features serve`
//!
//! Prints the addresses of the machine, then a line of JSON for each listen address and value of `POD_IP`: the published
//! address, and whether IPv4 and IPv6 reach the listener. The port is always shown as 8080. `cargo xtask go-zero`
//! compares the output with what go-zero publishes.

use serde_json::json;
use service_registry::advertise::{Advertise, ListenOn, Machine};
use service_registry::{Address, Result};
use std::net::SocketAddr;
use tokio::net::TcpStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let machine = Machine::read()?;
    let addresses = machine.addresses.iter().map(|address| {
        json!({"interface": address.interface, "ip": address.ip, "loopback": address.loopback})
    });
    println!("{}", json!({"addresses": addresses.collect::<Vec<_>>()}));
    for host in ["0.0.0.0", "", "[::]"] {
        let free: ListenOn = format!("{host}:0").parse()?;
        let listener = free.bind().await.expect("a free port");
        let bound = listener.local_addr().expect("it is bound");
        let reaches = async |ip: &str| {
            let address = SocketAddr::new(ip.parse().expect("an address"), bound.port());
            TcpStream::connect(address).await.is_ok()
        };
        let (ipv4, ipv6) = (reaches("127.0.0.1").await, reaches("::1").await);
        let listen_on = format!("{host}:8080");
        let advertise = Advertise::new(listen_on.parse()?);
        for pod_ip in ["", "10.9.9.9", "fd00::99", "[fd00::99]", "abc"] {
            let machine = Machine::new(machine.addresses.clone());
            let machine = if pod_ip.is_empty() { machine } else { machine.with_pod_ip(pod_ip) };
            let address = advertise.address_on(&machine, bound).ok();
            let address = address.as_ref().map(Address::as_str);
            println!(
                "{}",
                json!({"listen_on": listen_on, "pod_ip": pod_ip, "address": address, "ipv4": ipv4, "ipv6": ipv6})
            );
        }
    }
    Ok(())
}
