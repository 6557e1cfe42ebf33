//! The etcd of a run.

use crate::schedule::Schedule;
use crate::spec::{EtcdRelease, RunSpec};
use anyhow::{Context, Result, bail};
use registry_testbed::proxy::Proxy;
use registry_testbed::servers::{Etcd, EtcdCluster, ServerOptions, ServerTls};
use std::ffi::OsString;
use std::path::PathBuf;

/// The number of members of a replicated etcd.
pub(crate) const MEMBERS: usize = 3;

/// The prefix of the keys of all fleets, and of no others.
pub(crate) const PREFIX: &str = "fleet.";

/// The folders of etcd releases. Other releases are on `PATH`.
pub(crate) type Releases = Vec<(EtcdRelease, PathBuf)>;

/// A running etcd, and the proxies in front of it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) servers: Servers,
    /// A proxy in front of each member.
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) has_auth: bool,
    hosts: usize,
}

#[derive(Debug)]
pub(crate) enum Servers {
    One(Box<Etcd>),
    Three(Box<EtcdCluster>),
}

impl Store {
    pub(crate) async fn start(spec: &RunSpec, releases: &Releases) -> Result<Self> {
        let named = releases.iter().find(|(release, _)| *release == spec.etcd);
        let path = named.map(|(_, folder)| OsString::from(folder));
        let has_auth = spec.schedule == Schedule::Auth;
        let mut options = ServerOptions { url: None, ..Etcd::options() };
        options.path = path.or(options.path);
        if has_auth {
            // The minimum cost. With the default cost, the check of a password takes 0.1 s of CPU.
            options.arguments = vec!["--bcrypt-cost=4".to_owned()];
        }
        let tls = (spec.schedule == Schedule::Tls).then(ServerTls::mutual).transpose()?;
        let servers = match (spec.members, &tls) {
            (1, None) => Servers::One(Box::new(Etcd::start_with(options).await?)),
            (1, Some(tls)) => Servers::One(Box::new(Etcd::start_tls(options, tls).await?)),
            (MEMBERS, None) => Servers::Three(Box::new(EtcdCluster::start_with(options).await?)),
            (MEMBERS, Some(tls)) => {
                Servers::Three(Box::new(EtcdCluster::start_tls(options, tls).await?))
            }
            (other, _) => bail!("etcd must have 1 or {MEMBERS} members, got {other}"),
        };
        if has_auth {
            match &servers {
                Servers::One(server) => server.enable_auth(PREFIX).await?,
                Servers::Three(members) => members.enable_auth(PREFIX).await?,
            }
        }
        let mut store = Self { servers, proxies: Vec::new(), tls, has_auth, hosts: spec.hosts };
        for endpoint in store.endpoints() {
            let address = host(&endpoint);
            let address =
                address.parse().with_context(|| format!("`{address}` is not an address"))?;
            store.proxies.push(Proxy::start(address).await.context("cannot start a proxy")?);
        }
        Ok(store)
    }

    /// Returns the `host:port` of each proxy, for the configuration of callers.
    pub(crate) fn caller_hosts(&self) -> Vec<String> {
        self.named_twice(self.proxies.iter().map(|proxy| proxy.address().to_string()).collect())
    }

    /// Returns the `host:port` of each member, for the configuration of servers.
    pub(crate) fn server_hosts(&self) -> Vec<String> {
        let endpoints = self.endpoints();
        let hosts = endpoints.iter().map(|endpoint| host(endpoint).to_owned()).collect();
        self.named_twice(hosts)
    }

    /// Adds a second name of a single member, because callers with several hosts send a different authority.
    fn named_twice(&self, mut hosts: Vec<String>) -> Vec<String> {
        if let [host] = &hosts[..]
            && self.hosts > 1
        {
            hosts.push(host.replace("127.0.0.1", "localhost"));
        }
        hosts
    }

    /// Returns the endpoints of the members, without proxies.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        match &self.servers {
            Servers::One(server) => vec![server.endpoint()],
            Servers::Three(members) => (0..MEMBERS).map(|one| members.endpoint(one)).collect(),
        }
    }

    /// Kills all members, or all except one.
    pub(crate) fn kill(&mut self, spared: Option<usize>) -> Result<()> {
        match &mut self.servers {
            Servers::One(server) => server.process()?.kill()?,
            Servers::Three(members) => {
                for member in (0..MEMBERS).filter(|one| Some(*one) != spared) {
                    members.process(member).kill()?;
                }
            }
        }
        Ok(())
    }

    /// Deletes the data of all killed members.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        match &mut self.servers {
            Servers::One(server) => server.process()?.wipe()?,
            Servers::Three(members) => {
                for member in 0..MEMBERS {
                    members.process(member).wipe()?;
                }
            }
        }
        Ok(())
    }

    /// Restarts all members.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        match &mut self.servers {
            Servers::One(server) => server.process()?.restart().await?,
            Servers::Three(members) => members.restart_all().await?,
        }
        Ok(())
    }

    /// Returns the members of a cluster.
    pub(crate) fn cluster(&mut self) -> Result<&mut EtcdCluster> {
        match &mut self.servers {
            Servers::One(_) => bail!("this schedule needs {MEMBERS} members"),
            Servers::Three(members) => Ok(members),
        }
    }
}

/// Returns an endpoint without its scheme.
fn host(endpoint: &str) -> &str {
    endpoint.split_once("://").map_or(endpoint, |(_, host)| host)
}
