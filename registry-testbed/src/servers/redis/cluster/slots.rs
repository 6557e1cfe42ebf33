//! The owners of slots, failovers, and moves of slots.

use super::super::command::{must_send, send, wait_for};
use super::{RedisCluster, ServerError};
use futures_util::future::FutureExt;
use std::time::Duration;
use tokio::time::Instant;

/// The timeout of a manual failover, including its election: twice the node timeout.
const VOTED_WITHIN: Duration = Duration::from_secs(2);

impl RedisCluster {
    /// Returns the node that owns the slot of `key`, according to all nodes that run and are not cut off. Waits for a
    /// failover to end.
    pub async fn owner(&self, key: &str) -> Result<usize, ServerError> {
        wait_for("find the owner of a slot", || self.agreed_owner(key).boxed()).await
    }

    /// Waits until a node other than `node` owns the slot of `key`. Returns that node.
    pub async fn successor_of(&self, node: usize, key: &str) -> Result<usize, ServerError> {
        wait_for("see the cluster replace a node", || self.agreed_successor(node, key).boxed())
            .await
    }

    /// Makes a replica take over from the owner of the slot of `key`, by a manual failover without lost writes.
    /// Returns the new owner.
    pub async fn fail_over(&self, key: &str) -> Result<usize, ServerError> {
        let owner = self.owner(key).await?;
        let replica = wait_for("find a replica in sync", || {
            async move {
                let seen = send(&self.address(owner), "INFO replication").await?;
                replica_in(&seen).ok_or(seen)
            }
            .boxed()
        });
        let replica = replica.await?;
        let mut asked_at = None::<Instant>;
        wait_for("make a replica take over", || {
            // Repeated, since primaries that have just voted for another replica silently refuse to vote.
            let asks = asked_at.is_none_or(|asked_at| asked_at.elapsed() > VOTED_WITHIN);
            if asks {
                asked_at = Some(Instant::now());
            }
            let replica = &replica;
            async move {
                if asks {
                    send(replica, "CLUSTER FAILOVER").await?;
                }
                self.agreed_successor(owner, key).await
            }
            .boxed()
        })
        .await
    }

    /// [Moves](Self::move_slot) the slot of `key` to another primary. Returns that primary.
    pub async fn move_on(&self, key: &str) -> Result<usize, ServerError> {
        let owner = self.owner(key).await?;
        let to = wait_for("find another primary", || self.another_primary(owner).boxed()).await?;
        self.move_slot(key, to).await?;
        Ok(to)
    }

    /// Returns a node other than `node` that reports to be a primary.
    async fn another_primary(&self, node: usize) -> Result<usize, String> {
        for (other, process) in self.nodes.iter().enumerate().filter(|(other, _)| *other != node) {
            let seen = send(&process.address(), "CLUSTER NODES").await?;
            if seen.lines().any(|line| line.contains("myself,master")) {
                return Ok(other);
            }
        }
        Err("all other nodes are replicas".to_owned())
    }

    /// Moves the slot of `key` with all of its keys to another node, like `redis-cli --cluster reshard`.
    pub async fn move_slot(&self, key: &str, to: usize) -> Result<(), ServerError> {
        let from = self.owner(key).await?;
        let (source, target) = (self.address(from), self.address(to));
        let slot = must_send(&source, &format!("CLUSTER KEYSLOT {key}")).await?;
        let slot = slot.trim_start_matches(':').trim_end();
        let (source_id, target_id) = (self.id(from).await?, self.id(to).await?);
        must_send(&target, &format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}")).await?;
        must_send(&source, &format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}")).await?;
        let (host, port) = target.rsplit_once(':').unwrap_or((&target, ""));
        loop {
            let keys = must_send(&source, &format!("CLUSTER GETKEYSINSLOT {slot} 100")).await?;
            // The reply is an array: after its length, each key follows its own length.
            let keys: Vec<_> =
                keys.lines().skip(2).step_by(2).map(|key| format!("\"{key}\"")).collect();
            if keys.is_empty() {
                break;
            }
            let keys = keys.join(" ");
            must_send(&source, &format!("MIGRATE {host} {port} \"\" 0 5000 KEYS {keys}")).await?;
        }
        for node in [&target, &source] {
            must_send(node, &format!("CLUSTER SETSLOT {slot} NODE {target_id}")).await?;
        }
        let moved = || async move {
            match self.agreed_owner(key).await? {
                owner if owner == to => Ok(()),
                other => Err(format!("node {other} still owns the slot")),
            }
        };
        wait_for("see the new owner of a slot", || moved().boxed()).await
    }

    /// Returns the owner of the slot of `key`, if all nodes that run and are not cut off agree.
    async fn agreed_owner(&self, key: &str) -> Result<usize, String> {
        let is_connected = |node: &usize| Some(*node) != self.partitioned;
        let nodes = || self.nodes.iter().enumerate().filter(|(node, _)| is_connected(node));
        let running = || nodes().map(|(_, node)| node).filter(|node| node.pid().is_some());
        let first = running().next().ok_or("no node runs")?;
        let slot = send(&first.address(), &format!("CLUSTER KEYSLOT {key}")).await?;
        let slot = slot.trim_start_matches(':').trim_end().to_owned();
        let mut named = None;
        for node in running() {
            let info = send(&node.address(), "CLUSTER INFO").await?;
            if !info.contains("cluster_state:ok") {
                return Err(format!("{}: {info}", node.address()));
            }
            let seen = send(&node.address(), "CLUSTER NODES").await?;
            let owner = owner_in(&seen, &slot)
                .ok_or_else(|| format!("no node owns slot {slot}: {seen}"))?;
            if named.get_or_insert_with(|| owner.clone()) != &owner {
                return Err(format!("the nodes disagree on the owner of slot {slot}"));
            }
        }
        let named = named.ok_or("no node runs")?;
        let index = (0..self.nodes.len()).find(|node| self.announced_address(*node) == named);
        index.ok_or_else(|| format!("the owner {named} is not a node of this cluster"))
    }

    async fn agreed_successor(&self, node: usize, key: &str) -> Result<usize, String> {
        match self.agreed_owner(key).await? {
            same if same == node => Err(format!("node {same} still owns the slot")),
            other => Ok(other),
        }
    }

    pub(super) async fn id(&self, node: usize) -> Result<String, ServerError> {
        let answer = must_send(&self.address(node), "CLUSTER MYID").await?;
        Ok(answer.lines().nth(1).unwrap_or_default().to_owned())
    }
}

/// Returns the address of the primary that owns `slot`, from the reply to `CLUSTER NODES`.
fn owner_in(nodes: &str, slot: &str) -> Option<String> {
    let slot: u32 = slot.parse().ok()?;
    let has = |range: &str| {
        let (start, end) = range.split_once('-').unwrap_or((range, range));
        matches!((start.parse::<u32>(), end.parse::<u32>()), (Ok(start), Ok(end)) if (start..=end).contains(&slot))
    };
    nodes.lines().find_map(|line| {
        let mut words = line.split(' ');
        let address = words.nth(1)?.split(['@', ',']).next()?;
        let flags = words.next()?;
        let is_primary = flags.contains("master") && !flags.contains("fail");
        (is_primary && words.skip(5).any(has)).then(|| address.to_owned())
    })
}

/// Returns the address of a replica in sync, from the reply to `INFO replication`.
fn replica_in(info: &str) -> Option<String> {
    info.lines().find_map(|line| {
        let (_, line) = line.strip_prefix("slave")?.split_once(':')?;
        let field = |name: &str| line.split(',').find_map(|field| field.strip_prefix(name));
        let (host, port) = (field("ip=")?, field("port=")?);
        (field("state=")? == "online").then(|| format!("{host}:{port}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_of_a_slot_is_a_primary_that_has_not_failed() {
        let nodes = "a 127.0.0.1:1@2 master,fail - 0 0 1 connected 0-99\n\
                     b 127.0.0.1:3@4,host slave a 0 0 1 connected\n\
                     c 127.0.0.1:5@6 myself,master - 0 0 2 connected 7 50-60 [99->-d]\n";
        assert_eq!(owner_in(nodes, "55").as_deref(), Some("127.0.0.1:5"));
        assert_eq!(owner_in(nodes, "7").as_deref(), Some("127.0.0.1:5"));
        assert_eq!(owner_in(nodes, "99"), None);
    }

    #[test]
    fn replica_in_sync_is_online() {
        let info = "role:master\r\nconnected_slaves:2\r\n\
            slave0:ip=127.0.0.1,port=6,state=wait_bgsave,offset=0,lag=0\r\n\
            slave1:ip=127.0.0.1,port=7,state=online,offset=14,lag=0\r\n";
        assert_eq!(replica_in(info).as_deref(), Some("127.0.0.1:7"));
        assert_eq!(replica_in("role:master\r\nslave_read_only:1\r\n"), None);
    }
}
