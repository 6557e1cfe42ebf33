//! The creation of a cluster.

use super::super::command::{must_send, send, wait_for};
use super::{PRIMARIES, RedisCluster, SLOTS};
use crate::servers::ServerError;
use futures_util::future::FutureExt;
use std::net::SocketAddr;

impl RedisCluster {
    /// Joins the nodes into a cluster, assigns the slots, and waits until all replicas are in sync.
    pub(super) async fn form(&self, buses: &[SocketAddr]) -> Result<(), ServerError> {
        for (epoch, node) in (1..).zip(&self.nodes) {
            must_send(&node.address(), &format!("CLUSTER SET-CONFIG-EPOCH {epoch}")).await?;
        }
        let first = self.address(0);
        let buses = self.networks.as_ref().map_or(buses, |networks| networks.bus.addresses());
        for (node, bus) in buses.iter().enumerate().skip(1) {
            let address = self.announced_address(node);
            let (host, port) = address.rsplit_once(':').unwrap_or((&address, ""));
            let bus = bus.port();
            must_send(&first, &format!("CLUSTER MEET {host} {port} {bus}")).await?;
        }
        for (n, node) in self.nodes[..PRIMARIES].iter().enumerate() {
            let (start, end) = (n * SLOTS / PRIMARIES, (n + 1) * SLOTS / PRIMARIES - 1);
            must_send(&node.address(), &format!("CLUSTER ADDSLOTSRANGE {start} {end}")).await?;
        }
        wait_for("see the nodes connect to each other", || {
            async {
                for node in &self.nodes {
                    let seen = send(&node.address(), "CLUSTER NODES").await?;
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
            must_send(&replica, &format!("CLUSTER REPLICATE {primary}")).await?;
        }
        wait_for("see the replicas in sync", || {
            async {
                for node in &self.nodes {
                    let info = send(&node.address(), "CLUSTER INFO").await?;
                    if !info.contains("cluster_state:ok") {
                        return Err(info);
                    }
                }
                for node in &self.nodes[..PRIMARIES] {
                    let seen = send(&node.address(), "INFO replication").await?;
                    if !seen.contains("state=online") {
                        return Err(seen);
                    }
                }
                for node in &self.nodes {
                    let seen = send(&node.address(), "CLUSTER NODES").await?;
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
