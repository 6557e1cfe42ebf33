//! The network between a primary, its replicas and their clients, in which a server can be partitioned.
//!
//! A server announces the address of a listener as its own, so that its peers, the sentinels and clients
//! connect through the listener. Each server, and all sentinels, dial from their own loopback address. So a
//! listener knows which role connects, and each pair has a [`Proxy`] with its faults.

use super::super::forward::{Route, forward};
use crate::proxy::{Fault, Proxy};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The dialling side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Sentinel,
    Server(u8),
}

/// The listeners in front of the servers, before these are started.
#[derive(Debug)]
pub(super) struct Listeners(Vec<TcpListener>);

/// The links of every role to every server. Dropping it closes all of them.
#[derive(Debug)]
pub(super) struct Network {
    addresses: Vec<SocketAddr>,
    links: Vec<Link>,
    _forwarders: JoinSet<()>,
}

/// The connections of a role to a server.
#[derive(Debug)]
struct Link {
    from: Role,
    to: u8,
    proxy: Proxy,
}

impl Role {
    /// Returns the address that the role dials from. A client does not bind one, so its address is
    /// [`Ipv4Addr::LOCALHOST`].
    pub(super) fn source(self) -> Ipv4Addr {
        let last = match self {
            Self::Client => 1,
            Self::Sentinel => 2,
            Self::Server(n) => 3 + n,
        };
        Ipv4Addr::new(127, 0, 0, last)
    }
}

impl Listeners {
    pub(super) async fn open(servers: u8) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for _ in 0..servers {
            listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        }
        Ok(Self(listeners))
    }

    /// Returns the arguments that make a server announce its listener, and dial from its own address.
    pub(super) fn arguments(&self, server: u8) -> io::Result<Vec<String>> {
        let announced = self.address(server)?;
        let source = Role::Server(server).source();
        let words = [
            ("--bind-source-addr", source.to_string()),
            ("--replica-announce-ip", announced.ip().to_string()),
            ("--replica-announce-port", announced.port().to_string()),
        ];
        Ok(words.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect())
    }

    /// Returns the address that a server announces.
    pub(super) fn address(&self, server: u8) -> io::Result<SocketAddr> {
        self.0[usize::from(server)].local_addr()
    }

    /// Forwards connections to the servers at the addresses `servers`.
    pub(super) async fn forward_to(self, servers: &[SocketAddr]) -> io::Result<Network> {
        let (mut addresses, mut links, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        for ((to, listener), server) in (0..).zip(self.0).zip(servers) {
            let peers = (0..).zip(servers).map(|(n, _)| Role::Server(n));
            let mut map = Vec::new();
            for from in peers.chain([Role::Client, Role::Sentinel]) {
                let proxy = Proxy::start(*server).await?;
                map.push((from, proxy.address()));
                links.push(Link { from, to, proxy });
            }
            addresses.push(listener.local_addr()?);
            tasks.spawn(forward(listener, BySource(map)));
        }
        Ok(Network { addresses, links, _forwarders: tasks })
    }
}

impl Network {
    /// Returns the addresses that the servers announce.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Blackholes the links between `server` and the roles for which `is_cut` is true. All other links stay
    /// as they are.
    pub(super) fn cut_off(&self, server: u8, is_cut: impl Fn(Role) -> bool) {
        for Link { from, to, proxy } in &self.links {
            let with = match from {
                Role::Server(from) if *from == server => Role::Server(*to),
                _ if *to == server => *from,
                _ => continue,
            };
            if is_cut(with) {
                proxy.inject(Fault::Blackhole);
            }
        }
    }

    pub(super) fn heal(&self) {
        for link in &self.links {
            link.proxy.heal();
        }
    }

    /// Silences the links of clients to all servers. All other links stay as they are.
    pub(super) fn silence_clients(&self) {
        self.clients().for_each(|proxy| proxy.inject(Fault::Blackhole));
    }

    /// Ends the silence for new connections, and [strands](Proxy::strand) the open ones.
    pub(super) fn strand_clients(&self) {
        for proxy in self.clients() {
            proxy.strand();
            proxy.heal();
        }
    }

    fn clients(&self) -> impl Iterator<Item = &Proxy> {
        self.links.iter().filter(|link| link.from == Role::Client).map(|link| &link.proxy)
    }
}

/// Routes a connection by the role of its source address.
#[derive(Clone)]
struct BySource(Vec<(Role, SocketAddr)>);

impl Route for BySource {
    async fn connect(&self, _: &mut TcpStream, from: SocketAddr) -> io::Result<TcpStream> {
        let is_source = |role: Role| IpAddr::V4(role.source()) == from.ip();
        let proxy = self.0.iter().find(|(role, _)| is_source(*role));
        let (_, proxy) =
            proxy.ok_or_else(|| io::Error::other("a connection from an unknown address"))?;
        TcpStream::connect(proxy).await
    }
}
