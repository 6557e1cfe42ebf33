//! The ways to servers that stand in for each other, on which one can be cut off.
//!
//! A server says of itself that it is at a door, so that its peers, the sentinels and clients go through
//! that. Servers and sentinels dial from addresses of their own on loopback, so that a door knows who comes;
//! and each pair has a [`Proxy`] with its faults.

use super::super::door::{self, Guide};
use crate::proxy::{Fault, Proxy};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Who dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Client,
    Sentinel,
    Server(u8),
}

/// The doors of servers that do not run yet.
#[derive(Debug)]
pub(super) struct Doors(Vec<TcpListener>);

/// The way of every party to every server. Dropping it ends them all.
#[derive(Debug)]
pub(super) struct Network {
    doors: Vec<SocketAddr>,
    ways: Vec<Way>,
    _doors: JoinSet<()>,
}

/// What one party sends to a server, and the answers.
#[derive(Debug)]
struct Way {
    from: Party,
    to: u8,
    proxy: Proxy,
}

impl Party {
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

impl Doors {
    pub(super) async fn open(servers: u8) -> io::Result<Self> {
        let mut doors = Vec::new();
        for _ in 0..servers {
            doors.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        }
        Ok(Self(doors))
    }

    /// What a server is told, so that others come to its door and it is known at theirs.
    pub(super) fn arguments(&self, server: u8) -> io::Result<Vec<String>> {
        let door = self.door(server)?;
        let source = Party::Server(server).source();
        let words = [
            ("--bind-source-addr", source.to_string()),
            ("--replica-announce-ip", door.ip().to_string()),
            ("--replica-announce-port", door.port().to_string()),
        ];
        Ok(words.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect())
    }

    /// Where others reach a server.
    pub(super) fn door(&self, server: u8) -> io::Result<SocketAddr> {
        self.0[usize::from(server)].local_addr()
    }

    /// Leads on to the servers, which listen at `addresses`.
    pub(super) async fn lead_to(self, addresses: &[SocketAddr]) -> io::Result<Network> {
        let (mut doors, mut ways, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        for ((to, door), address) in (0..).zip(self.0).zip(addresses) {
            let peers = (0..).zip(addresses).map(|(n, _)| Party::Server(n));
            let mut map = Vec::new();
            for from in peers.chain([Party::Client, Party::Sentinel]) {
                let proxy = Proxy::start(*address).await?;
                map.push((from, proxy.address()));
                ways.push(Way { from, to, proxy });
            }
            doors.push(door.local_addr()?);
            tasks.spawn(door::keep(door, BySource(map)));
        }
        Ok(Network { doors, ways, _doors: tasks })
    }
}

impl Network {
    /// Where others reach each server.
    pub(super) fn doors(&self) -> &[SocketAddr] {
        &self.doors
    }

    /// Lets what is sent between `server` and others vanish, to and fro, if it is with one of whom `are_cut`
    /// says so; all other ways are as they were.
    pub(super) fn cut_off(&self, server: u8, are_cut: impl Fn(Party) -> bool) {
        for Way { from, to, proxy } in &self.ways {
            let with = match from {
                Party::Server(from) if *from == server => Party::Server(*to),
                _ if *to == server => *from,
                _ => continue,
            };
            if are_cut(with) {
                proxy.inject(Fault::Blackhole);
            }
        }
    }

    pub(super) fn heal(&self) {
        for way in &self.ways {
            way.proxy.heal();
        }
    }
}

/// The proxies of a door, for each who may come.
#[derive(Clone)]
struct BySource(Vec<(Party, SocketAddr)>);

impl Guide for BySource {
    async fn connect(&self, _: &mut TcpStream, from: SocketAddr) -> io::Result<TcpStream> {
        let comes = |party: Party| IpAddr::V4(party.source()) == from.ip();
        let way = self.0.iter().find(|(party, _)| comes(*party));
        let (_, proxy) = way.ok_or_else(|| io::Error::other("nobody knows who comes"))?;
        TcpStream::connect(proxy).await
    }
}
