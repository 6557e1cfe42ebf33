//! The network between servers that replicate each other, in which one can be partitioned.
//!
//! A server announces the address of a listener as its own, so that its peers, the sentinels and clients
//! connect through that. Servers and sentinels dial from addresses of their own on loopback, so that a
//! listener knows who connects; and each pair has a [`Proxy`] with its faults.

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

/// The listeners that stand in for servers, before these run.
#[derive(Debug)]
pub(super) struct Listeners(Vec<TcpListener>);

/// The links of every role to every server. Dropping it ends them all.
#[derive(Debug)]
pub(super) struct Network {
    addresses: Vec<SocketAddr>,
    links: Vec<Link>,
    _forwarders: JoinSet<()>,
}

/// The connections of one role to a server.
#[derive(Debug)]
struct Link {
    from: Role,
    to: u8,
    proxy: Proxy,
}

impl Role {
    /// The address it dials from. A client does not choose, and it is [`Ipv4Addr::LOCALHOST`].
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

    /// What a server is told, so that others come to its listener and it is known at theirs.
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

    /// The address at which others reach a server.
    pub(super) fn address(&self, server: u8) -> io::Result<SocketAddr> {
        self.0[usize::from(server)].local_addr()
    }

    /// Forwards connections to the servers, which listen at `servers`.
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
    /// The addresses at which others reach each server.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Drops everything between `server` and those others for whom `are_cut` is true. All other links stay
    /// as they are.
    pub(super) fn cut_off(&self, server: u8, are_cut: impl Fn(Role) -> bool) {
        for Link { from, to, proxy } in &self.links {
            let with = match from {
                Role::Server(from) if *from == server => Role::Server(*to),
                _ if *to == server => *from,
                _ => continue,
            };
            if are_cut(with) {
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

    /// Ends that for new connections. Those that stand are [stranded](Proxy::strand).
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

/// The proxies behind a listener, one for each role that may connect.
#[derive(Clone)]
struct BySource(Vec<(Role, SocketAddr)>);

impl Route for BySource {
    async fn connect(&self, _: &mut TcpStream, from: SocketAddr) -> io::Result<TcpStream> {
        let dials = |role: Role| IpAddr::V4(role.source()) == from.ip();
        let proxy = self.0.iter().find(|(role, _)| dials(*role));
        let (_, proxy) =
            proxy.ok_or_else(|| io::Error::other("a connection from an unknown address"))?;
        TcpStream::connect(proxy).await
    }
}
