//! How nodes become a cluster.

use super::super::network::Doors;
use super::super::talk::{order, say, settle};
use super::super::words;
use super::{PRIMARIES, RedisCluster, SLOTS};
use crate::servers::ServerError;
use futures_util::future::FutureExt;
use std::io;
use std::net::SocketAddr;

/// What a node is told, so that clients and other nodes come to its doors and it is known at theirs.
pub(super) fn announced(node: u8, clients: &Doors, bus: &Doors) -> io::Result<Vec<String>> {
    let (door, bus) = (clients.door(node)?, bus.door(node)?.port());
    let more = format!(
        "--cluster-announce-ip {} --cluster-announce-port {} --cluster-announce-bus-port {bus}",
        door.ip(),
        door.port()
    );
    Ok([clients.arguments(node)?, words(&more)].concat())
}

impl RedisCluster {
    /// Makes a cluster of the nodes.
    pub(super) async fn introduce(&self, buses: &[SocketAddr]) -> Result<(), ServerError> {
        for (epoch, node) in (1..).zip(&self.nodes) {
            order(&node.address(), &format!("CLUSTER SET-CONFIG-EPOCH {epoch}")).await?;
        }
        let first = self.address(0);
        let buses = self.ways.as_ref().map_or(buses, |ways| ways.bus.doors());
        for (node, bus) in buses.iter().enumerate().skip(1) {
            let address = self.named_address(node);
            let (host, port) = address.rsplit_once(':').unwrap_or((&address, ""));
            let bus = bus.port();
            order(&first, &format!("CLUSTER MEET {host} {port} {bus}")).await?;
        }
        for (n, node) in self.nodes[..PRIMARIES].iter().enumerate() {
            let (start, end) = (n * SLOTS / PRIMARIES, (n + 1) * SLOTS / PRIMARIES - 1);
            order(&node.address(), &format!("CLUSTER ADDSLOTSRANGE {start} {end}")).await?;
        }
        settle("see the nodes know of each other", || {
            async {
                for node in &self.nodes {
                    let seen = say(&node.address(), "CLUSTER NODES").await?;
                    if seen.matches(" connected").count() < self.nodes.len()
                        || seen.contains("handshake")
                    {
                        return Err(seen);
                    }
                }
                Ok(())
            }
            .boxed()
        })
        .await?;
        for n in 0..PRIMARIES {
            let (primary, replica) = (self.id(n).await?, self.address(PRIMARIES + n));
            order(&replica, &format!("CLUSTER REPLICATE {primary}")).await?;
        }
        settle("see the replicas in step", || {
            async {
                for node in &self.nodes {
                    let info = say(&node.address(), "CLUSTER INFO").await?;
                    if !info.contains("cluster_state:ok") {
                        return Err(info);
                    }
                }
                for node in &self.nodes[..PRIMARIES] {
                    let seen = say(&node.address(), "INFO replication").await?;
                    if !seen.contains("state=online") {
                        return Err(seen);
                    }
                }
                for node in &self.nodes {
                    let seen = say(&node.address(), "CLUSTER NODES").await?;
                    let replicas = seen.lines().filter(|line| line.contains("slave")).count();
                    if replicas != self.nodes.len() - PRIMARIES {
                        return Err(seen);
                    }
                }
                Ok(())
            }
            .boxed()
        })
        .await
    }
}
