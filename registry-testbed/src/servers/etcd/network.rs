//! The network between the members of a cluster, in which a member can be partitioned.
//!
//! A member advertises an address that does not exist. Each peer dials it through its own SOCKS proxy,
//! which etcd takes from its environment. So both members of every connection are known, and each pair
//! has a [`Proxy`] with its faults. A proxy in front of each member would not know which peer connects.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use registry_testkit::lag::timeout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::super::forward::{Route, forward};
use crate::proxy::{Fault, Proxy};

/// The number of members.
pub(super) const MEMBERS: usize = 3;

/// Returns the address that a member advertises. It is one for documentation (RFC 5737), since Go uses no proxy
/// for loopback addresses.
pub(super) fn advertised(member: usize) -> Ipv4Addr {
    let [a, b, c, _] = Ipv4Addr::new(192, 0, 2, 0).octets();
    Ipv4Addr::new(a, b, c, u8::try_from(member + 1).expect("a cluster is small"))
}

/// The links of every member to every other. Dropping it closes all of them.
#[derive(Debug)]
pub(super) struct Network {
    addresses: Vec<SocketAddr>,
    links: Vec<Link>,
    _forwarders: JoinSet<()>,
}

/// The connections of one member to another.
#[derive(Debug)]
struct Link {
    from: usize,
    to: usize,
    proxy: Proxy,
}

impl Network {
    /// Connects members that listen for peers at these addresses.
    pub(super) async fn start(peers: &[SocketAddr; MEMBERS]) -> io::Result<Self> {
        let (mut addresses, mut links, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        for from in 0..MEMBERS {
            let mut map = Vec::new();
            for (to, peer) in peers.iter().enumerate().filter(|(to, _)| *to != from) {
                let proxy = Proxy::start(*peer).await?;
                map.push((advertised(to), proxy.address()));
                links.push(Link { from, to, proxy });
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            addresses.push(listener.local_addr()?);
            tasks.spawn(forward(listener, ByTarget(map)));
        }
        Ok(Self { addresses, links, _forwarders: tasks })
    }

    /// Returns Go's variables for a proxy, which make an etcd dial through its listener. Go prefers the names in
    /// capitals.
    pub(super) fn environment(&self, member: usize) -> Vec<(&'static str, String)> {
        let proxy = format!("socks5://{}", self.addresses[member]);
        // Replaces the user's exceptions, which may cover everything.
        vec![
            ("HTTP_PROXY", proxy.clone()),
            ("HTTPS_PROXY", proxy),
            ("NO_PROXY", "localhost".into()),
        ]
    }

    /// Blackholes the links between `member` and all others, and heals all other links.
    pub(super) fn partition(&self, member: Option<usize>) {
        for link in &self.links {
            if member.is_some_and(|member| link.from == member || link.to == member) {
                link.proxy.inject(Fault::Blackhole);
            } else {
                link.proxy.heal();
            }
        }
    }
}

/// Routes a member's connection by the advertised address of the peer.
#[derive(Clone)]
struct ByTarget(Vec<(Ipv4Addr, SocketAddr)>);

impl Route for ByTarget {
    async fn connect(&self, member: &mut TcpStream, _: SocketAddr) -> io::Result<TcpStream> {
        const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
        timeout(HANDSHAKE_WITHIN, handshake(member, &self.0)).await?
    }
}

/// Makes the handshake of SOCKS 5 (RFC 1928) that Go uses: without a password, to an IPv4 address.
async fn handshake(
    member: &mut TcpStream,
    map: &[(Ipv4Addr, SocketAddr)],
) -> io::Result<TcpStream> {
    const VERSION: u8 = 5;
    const NO_PASSWORD: u8 = 0;
    const CONNECT_TO_IPV4: [u8; 4] = [VERSION, 1, 0, 1];
    const SUCCESS: u8 = 0;
    let [version, methods] = read(member).await?;
    let mut offered = vec![0; usize::from(methods)];
    member.read_exact(&mut offered).await?;
    if version != VERSION || !offered.contains(&NO_PASSWORD) {
        return Err(io::Error::other("not SOCKS 5 without a password"));
    }
    member.write_all(&[VERSION, NO_PASSWORD]).await?;
    let command: [u8; 4] = read(member).await?;
    let address: [u8; 4] = read(member).await?;
    let _port: [u8; 2] = read(member).await?;
    let proxy = map.iter().find(|(advertised, _)| advertised.octets() == address);
    let Some((_, proxy)) = proxy.filter(|_| command == CONNECT_TO_IPV4) else {
        return Err(io::Error::other("not a connection to a peer"));
    };
    let peer = TcpStream::connect(proxy).await?;
    // Go ignores the bound address: zeros.
    member.write_all(&[VERSION, SUCCESS, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(peer)
}

/// Reads `N` bytes.
async fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::array;

    const SOON: Duration = Duration::from_secs(5);

    /// A connection of one member to another, made as etcd does.
    struct Call {
        from: usize,
        to: usize,
        stream: TcpStream,
    }

    impl Call {
        async fn dial(network: &Network, from: usize, to: usize) -> Self {
            let mut stream = TcpStream::connect(network.addresses[from]).await.unwrap();
            stream.write_all(&[5, 1, 0]).await.unwrap();
            assert_eq!(read(&mut stream).await.unwrap(), [5, 0]);
            stream.write_all(&[5, 1, 0, 1]).await.unwrap();
            stream.write_all(&advertised(to).octets()).await.unwrap();
            stream.write_all(&2380_u16.to_be_bytes()).await.unwrap();
            assert_eq!(read(&mut stream).await.unwrap(), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
            Self { from, to, stream }
        }

        async fn ask(&mut self) {
            self.stream.write_all(b"?").await.unwrap();
        }

        /// Returns the number that the answering member sends, or `None` after `within`.
        async fn answer(&mut self, within: Duration) -> Option<usize> {
            let answer = timeout(within, read::<1>(&mut self.stream)).await;
            answer.ok().map(|byte| usize::from(byte.unwrap()[0]))
        }
    }

    async fn member(number: u8, listener: TcpListener) {
        let mut calls = JoinSet::new();
        while let Ok((mut call, _)) = listener.accept().await {
            calls.spawn(async move {
                while read::<1>(&mut call).await.is_ok() {
                    call.write_all(&[number]).await.unwrap();
                }
            });
        }
    }

    #[tokio::test]
    async fn partitioned_member_neither_calls_nor_is_called() {
        let mut members = JoinSet::new();
        let mut peers = [SocketAddr::from(([0; 4], 0)); MEMBERS];
        for (number, peer) in (0..).zip(&mut peers) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            *peer = listener.local_addr().unwrap();
            members.spawn(member(number, listener));
        }
        let network = Network::start(&peers).await.unwrap();
        let mut calls = Vec::new();
        for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            calls.push(timeout(SOON, Call::dial(&network, from, to)).await.unwrap());
        }
        for partitioned in [Some(0), Some(2), None] {
            network.partition(partitioned);
            for call in &mut calls {
                call.ask().await;
                if partitioned.is_some_and(|member| [call.from, call.to].contains(&member)) {
                    let answer = call.answer(Duration::from_millis(100)).await;
                    assert_eq!(answer, None, "{} to {}", call.from, call.to);
                } else {
                    assert_eq!(call.answer(SOON).await, Some(call.to), "from {}", call.from);
                }
            }
            network.partition(None);
            // The requests that were held up arrive now.
            for call in &mut calls {
                if partitioned.is_some_and(|member| [call.from, call.to].contains(&member)) {
                    assert_eq!(call.answer(SOON).await, Some(call.to), "from {}", call.from);
                }
            }
        }
    }

    #[test]
    fn advertised_addresses_are_those_for_documentation() {
        let all: [Ipv4Addr; MEMBERS] = array::from_fn(advertised);
        assert!(all.iter().all(Ipv4Addr::is_documentation));
    }
}
