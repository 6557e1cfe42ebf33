//! The servers of a run, and the links of clients to them.

use crate::topology::Topology;
use anyhow::{Context, Result};
use registry_core::Registry;
use registry_etcd::EtcdRegistry;
use registry_redis::RedisRegistry;
use registry_testbed::proxy::{Fault, Proxy};
use registry_testbed::servers::{
    Etcd, EtcdCluster, Process, Redis, RedisCluster, RedisSentinel, ServerOptions,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The number of members of a replicated etcd.
pub(crate) const MEMBERS: usize = 3;

/// A key of the shard of the service on Redis.
pub(crate) const KEY: &str = "{registry/15}:log";

/// Running servers, each a child process.
#[derive(Debug)]
pub(crate) enum Servers {
    Etcd(Etcd),
    EtcdThree(Box<EtcdCluster>),
    Redis(Redis),
    Sentinel(Box<RedisSentinel>),
    Cluster(Box<RedisCluster>),
}

/// The link of some clients: a proxy per server, or none for direct connections.
#[derive(Debug, Default)]
pub(crate) struct Link(pub(crate) Vec<Proxy>);

impl Link {
    /// Refuses connections to all servers but one, until [`Link::open`].
    pub(crate) fn keep_only(&self, server: usize) {
        let others = self.0.iter().enumerate().filter(|(n, _)| *n != server);
        others.for_each(|(_, proxy)| proxy.inject(Fault::Refuse));
    }

    /// Heals all proxies.
    pub(crate) fn open(&self) {
        self.0.iter().for_each(Proxy::heal);
    }
}

impl Servers {
    pub(crate) async fn start(topology: Topology) -> Result<Self> {
        // A killed Redis must keep all acknowledged writes.
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let own = |options: ServerOptions, arguments: &[&str]| ServerOptions {
            url: None,
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            ..options
        };
        let (etcd, redis) = (own(Etcd::options(), &[]), own(Redis::options(), &[]));
        Ok(match topology {
            Topology::Etcd => Self::Etcd(Etcd::start_with(etcd).await?),
            Topology::EtcdThree => Self::EtcdThree(Box::new(EtcdCluster::start_with(etcd).await?)),
            Topology::Redis => Self::Redis(Redis::start_with(own(redis, &durable)).await?),
            Topology::Sentinel => Self::Sentinel(Box::new(RedisSentinel::start_with(redis).await?)),
            Topology::Cluster => {
                Self::Cluster(Box::new(RedisCluster::start_partitionable(redis).await?))
            }
        })
    }

    /// Returns the URL for clients that connect directly.
    pub(crate) fn url(&self, ttl: Duration) -> String {
        let url = match self {
            Self::Etcd(server) => server.url().to_owned(),
            Self::EtcdThree(members) => members.url().to_owned(),
            Self::Redis(server) => server.url().to_owned(),
            Self::Sentinel(servers) => servers.url(),
            Self::Cluster(nodes) => nodes.url(),
        };
        with_ttl(&url, ttl)
    }

    /// Returns the URL for clients behind a link.
    pub(crate) fn url_behind(&self, link: &Link, ttl: Duration) -> String {
        if link.0.is_empty() {
            return self.url(ttl);
        }
        let scheme = if matches!(self, Self::Redis(_)) { "redis" } else { "etcd" };
        let hosts: Vec<_> = link.0.iter().map(|proxy| proxy.address().to_string()).collect();
        with_ttl(&format!("{scheme}://{}", hosts.join(",")), ttl)
    }

    /// Starts a proxy in front of each server. The servers of a Sentinel or Cluster already have proxies.
    pub(crate) async fn link(&self) -> Result<Link> {
        let mut proxies = Vec::new();
        for address in self.addresses()? {
            proxies.push(Proxy::start(address).await.context("cannot start a proxy")?);
        }
        Ok(Link(proxies))
    }

    /// Returns the addresses of the servers, or none for a Sentinel or Cluster.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let endpoints = match self {
            Self::Etcd(server) => vec![server.endpoint()],
            Self::EtcdThree(members) => (0..MEMBERS).map(|one| members.endpoint(one)).collect(),
            Self::Redis(server) => vec![server.address().to_owned()],
            Self::Sentinel(_) | Self::Cluster(_) => Vec::new(),
        };
        let parse = |endpoint: String| {
            let address = endpoint.trim_start_matches("http://");
            address.parse().with_context(|| format!("the endpoint `{endpoint}` is not an address"))
        };
        endpoints.into_iter().map(parse).collect()
    }

    /// Returns the URL of a server without silent links: the primary of Redis, or the followers of a replicated etcd.
    pub(crate) async fn direct_url(&self, ttl: Duration) -> Result<String> {
        let url = match self {
            Self::Etcd(_) | Self::Redis(_) => return Ok(self.url(ttl)),
            Self::EtcdThree(members) => {
                let leader = members.leader().await?;
                return Ok(Self::url_without(members, leader, ttl));
            }
            Self::Sentinel(servers) => {
                format!("redis://{}", servers.address(servers.primary().await?))
            }
            Self::Cluster(nodes) => {
                format!("redis+cluster://{}", nodes.address(nodes.owner(KEY).await?))
            }
        };
        Ok(with_ttl(&url, ttl))
    }

    /// Returns the URL of all members of etcd except one.
    pub(crate) fn url_without(members: &EtcdCluster, without: usize, ttl: Duration) -> String {
        let others = (0..MEMBERS).filter(|member| *member != without);
        let others = others.map(|member| members.endpoint(member).replace("http://", ""));
        with_ttl(&format!("etcd://{}", others.collect::<Vec<_>>().join(",")), ttl)
    }

    /// Returns the process of a store that is not replicated.
    pub(crate) fn processes(&mut self) -> Result<Vec<&mut Process>> {
        Ok(match self {
            Self::Etcd(server) => vec![server.process()?],
            Self::Redis(server) => vec![server.process()?],
            Self::EtcdThree(_) | Self::Sentinel(_) | Self::Cluster(_) => Vec::new(),
        })
    }

    /// Kills all servers.
    pub(crate) fn kill(&mut self) -> Result<()> {
        match self {
            Self::EtcdThree(members) => {
                for member in 0..MEMBERS {
                    members.process(member).kill()?;
                }
            }
            _ => self.processes()?.into_iter().try_for_each(Process::kill)?,
        }
        Ok(())
    }

    /// Deletes the data of all killed servers.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        match self {
            Self::EtcdThree(members) => {
                for member in 0..MEMBERS {
                    members.process(member).wipe()?;
                }
            }
            _ => self.processes()?.into_iter().try_for_each(Process::wipe)?,
        }
        Ok(())
    }

    /// Restarts all servers, and waits until they respond.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        match self {
            Self::EtcdThree(members) => members.restart_all().await?,
            _ => {
                for process in self.processes()? {
                    process.restart().await?;
                }
            }
        }
        Ok(())
    }

    /// Kills the primary, waits until another server has taken over, and returns both.
    pub(crate) async fn fail_over(&mut self) -> Result<(usize, usize)> {
        match self {
            Self::Sentinel(servers) => {
                let primary = servers.primary().await?;
                servers.process(primary).kill()?;
                Ok((primary, servers.successor_of(primary).await?))
            }
            Self::Cluster(nodes) => {
                let primary = nodes.owner(KEY).await?;
                nodes.process(primary).kill()?;
                Ok((primary, nodes.successor_of(primary, KEY).await?))
            }
            _ => anyhow::bail!("these servers have no failover"),
        }
    }
}

fn with_ttl(url: &str, ttl: Duration) -> String {
    format!("{url}?ttl={}ms", ttl.as_millis())
}

/// Connects to a store.
pub(crate) async fn connect(url: &str) -> Result<Arc<dyn Registry>> {
    let context = || format!("cannot connect to {url}");
    Ok(if url.starts_with("etcd") {
        Arc::new(EtcdRegistry::connect(&url.parse()?).await.with_context(context)?)
    } else {
        Arc::new(RedisRegistry::connect(&url.parse()?).await.with_context(context)?)
    })
}
