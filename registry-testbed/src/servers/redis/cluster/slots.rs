//! Who has which slot, and how slots change hands.

use super::super::command::{must_send, send, wait_for};
use super::{RedisCluster, ServerError};
use futures_util::future::FutureExt;
use std::time::Duration;
use tokio::time::Instant;

/// How long a manual failover may take, votes and all: twice the node timeout.
const VOTED_WITHIN: Duration = Duration::from_secs(2);

impl RedisCluster {
    /// The node that has the slot of `key`, to all nodes that run and are not cut off, itself included. Waits
    /// for that through a failover.
    pub async fn owner(&self, key: &str) -> Result<usize, ServerError> {
        wait_for("find the node that has a slot", || self.named(key).boxed()).await
    }

    /// Waits until a node other than `node` has the slot of `key`.
    pub async fn successor_of(&self, node: usize, key: &str) -> Result<usize, ServerError> {
        wait_for("see the cluster replace a node", || self.named_but(node, key).boxed()).await
    }

    /// Has a replica take over from the node that has the slot of `key`, by agreement, so that nothing
    /// acknowledged is lost. Says which node it is.
    pub async fn fail_over(&self, key: &str) -> Result<usize, ServerError> {
        let owner = self.owner(key).await?;
        let replica = wait_for("find a replica that is in step", || {
            async move {
                let seen = send(&self.address(owner), "INFO replication").await?;
                replica_in(&seen).ok_or(seen)
            }
            .boxed()
        });
        let replica = replica.await?;
        let mut asked_at = None::<Instant>;
        wait_for("have a replica take over", || {
            // Those who voted for another one a moment ago do not vote, of which nobody is told.
            let asks = asked_at.is_none_or(|asked_at| asked_at.elapsed() > VOTED_WITHIN);
            if asks {
                asked_at = Some(Instant::now());
            }
            let replica = &replica;
            async move {
                if asks {
                    send(replica, "CLUSTER FAILOVER").await?;
                }
                self.named_but(owner, key).await
            }
            .boxed()
        })
        .await
    }

    /// [Moves](Self::move_slot) the slot of `key` to another primary. Says to which node.
    pub async fn move_on(&self, key: &str) -> Result<usize, ServerError> {
        let owner = self.owner(key).await?;
        let to = wait_for("find another primary", || self.primary_but(owner).boxed()).await?;
        self.move_slot(key, to).await?;
        Ok(to)
    }

    /// A node that says itself that it is a primary, and is not `node`.
    async fn primary_but(&self, node: usize) -> Result<usize, String> {
        for (other, process) in self.nodes.iter().enumerate().filter(|(other, _)| *other != node) {
            let seen = send(&process.address(), "CLUSTER NODES").await?;
            if seen.lines().any(|line| line.contains("myself,master")) {
                return Ok(other);
            }
        }
        Err("all others are replicas".to_owned())
    }

    /// Moves the slot of `key`, with all that is in it, to another node, as `redis-cli --cluster reshard`
    /// does.
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
            // Each behind its length.
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
            match self.named(key).await? {
                owner if owner == to => Ok(()),
                other => Err(format!("node {other} still has it")),
            }
        };
        wait_for("see a slot moved", || moved().boxed()).await
    }

    async fn named(&self, key: &str) -> Result<usize, String> {
        let is_heard = |node: &usize| Some(*node) != self.partitioned;
        let nodes = || self.nodes.iter().enumerate().filter(|(node, _)| is_heard(node));
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
            let owner =
                owner_in(&seen, &slot).ok_or_else(|| format!("nobody has {slot}: {seen}"))?;
            if named.get_or_insert_with(|| owner.clone()) != &owner {
                return Err("the nodes are not of one mind".to_owned());
            }
        }
        let named = named.ok_or("no node runs")?;
        let index = (0..self.nodes.len()).find(|node| self.announced_address(*node) == named);
        index.ok_or_else(|| format!("{named} is none of ours"))
    }

    async fn named_but(&self, node: usize, key: &str) -> Result<usize, String> {
        match self.named(key).await? {
            same if same == node => Err(format!("node {same} still has it")),
            other => Ok(other),
        }
    }

    pub(super) async fn id(&self, node: usize) -> Result<String, ServerError> {
        let answer = must_send(&self.address(node), "CLUSTER MYID").await?;
        Ok(answer.lines().nth(1).unwrap_or_default().to_owned())
    }
}

/// The address of the primary that has `slot`, in the answer to `CLUSTER NODES`.
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

/// The address of a replica that is in step, in the answer to `INFO replication`.
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
    fn the_owner_of_a_slot_is_a_primary_that_has_not_failed() {
        let nodes = "a 127.0.0.1:1@2 master,fail - 0 0 1 connected 0-99\n\
                     b 127.0.0.1:3@4,host slave a 0 0 1 connected\n\
                     c 127.0.0.1:5@6 myself,master - 0 0 2 connected 7 50-60 [99->-d]\n";
        assert_eq!(owner_in(nodes, "55").as_deref(), Some("127.0.0.1:5"));
        assert_eq!(owner_in(nodes, "7").as_deref(), Some("127.0.0.1:5"));
        assert_eq!(owner_in(nodes, "99"), None);
    }

    #[test]
    fn a_replica_that_is_in_step_is_online() {
        let info = "role:master\r\nconnected_slaves:2\r\n\
            slave0:ip=127.0.0.1,port=6,state=wait_bgsave,offset=0,lag=0\r\n\
            slave1:ip=127.0.0.1,port=7,state=online,offset=14,lag=0\r\n";
        assert_eq!(replica_in(info).as_deref(), Some("127.0.0.1:7"));
        assert_eq!(replica_in("role:master\r\nslave_read_only:1\r\n"), None);
    }
}
