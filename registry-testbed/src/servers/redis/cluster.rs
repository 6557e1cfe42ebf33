//! A Redis Cluster.

mod formation;
mod slots;

use super::super::process::{Extra, free_port};
use super::super::server::program;
use super::super::{Process, ServerError, ServerOptions};
use super::command::{is_synced_replica, wait_for};
use super::network::{Listeners, Network, Role};
use super::{REDIS, words};
use futures_util::future::{FutureExt, try_join_all};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// The number of primaries.
const PRIMARIES: usize = 3;

/// The number of slots of a cluster.
const SLOTS: usize = 16384;

/// The number of nodes.
const NODES: u8 = 6;

/// A Redis Cluster with three primaries and a replica of each. Each node is a child process on loopback. Nodes are
/// numbered from 0: at the start, 0 to 2 are primaries and 3 to 5 their replicas.
///
/// The cluster replaces a primary that is silent for a second.
///
/// # Panics
///
/// Methods panic if there is no node with the given number.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Process>,
    networks: Option<Networks>,
    /// The node that is cut off from all others.
    partitioned: Option<usize>,
}

/// The networks of a partitionable cluster: for clients, and for the cluster bus between nodes.
#[derive(Debug)]
struct Networks {
    clients: Network,
    bus: Network,
}

impl RedisCluster {
    /// Starts a cluster from the binary on `PATH`.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(super::Redis::options()).await
    }

    /// Starts a cluster from a binary. The arguments in `options` apply to each node; the URL and the image are
    /// ignored.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        Self::launch(options, None).await
    }

    /// Starts a cluster in which a node can be [cut off](Self::cut_off). Its network runs in tasks of the current
    /// runtime: nothing passes while that is blocked.
    pub async fn start_partitionable(options: ServerOptions) -> Result<Self, ServerError> {
        const OPEN: &str = "open the listeners of a cluster";
        let clients = Listeners::open(NODES).await.map_err(ServerError::io(OPEN))?;
        let bus = Listeners::open(NODES).await.map_err(ServerError::io(OPEN))?;
        Self::launch(options, Some((clients, bus))).await
    }

    async fn launch(
        options: ServerOptions,
        listeners: Option<(Listeners, Listeners)>,
    ) -> Result<Self, ServerError> {
        const CONNECT: &str = "connect the nodes of a cluster";
        let program = program(&REDIS, &options)?;
        let (mut buses, mut arguments) = (Vec::new(), Vec::new());
        for node in 0..NODES {
            let bus = free_port();
            buses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, bus)));
            let mut own = words(&format!(
                "--cluster-enabled yes --cluster-node-timeout 1000 --cluster-port {bus} \
                 --repl-diskless-sync-delay 0"
            ));
            if let Some((clients, bus)) = &listeners {
                own.extend(
                    announce_arguments(node, clients, bus).map_err(ServerError::io(CONNECT))?,
                );
            }
            own.extend_from_slice(&options.arguments);
            arguments.push(own);
        }
        let nodes = arguments.into_iter().map(|arguments| {
            let extra = Extra { arguments, disk: options.disk.clone(), ..Extra::default() };
            Process::start(&REDIS, program.clone(), extra)
        });
        let nodes = try_join_all(nodes).await?;
        let networks = match listeners {
            None => None,
            Some((clients, bus)) => {
                let addresses: Vec<_> = nodes.iter().map(Process::socket_address).collect();
                let clients = clients.forward_to(&addresses).await;
                let bus = bus.forward_to(&buses).await;
                let (clients, bus) = (
                    clients.map_err(ServerError::io(CONNECT))?,
                    bus.map_err(ServerError::io(CONNECT))?,
                );
                Some(Networks { clients, bus })
            }
        };
        let cluster = Self { nodes, networks, partitioned: None };
        cluster.form(&buses).await?;
        Ok(cluster)
    }

    /// Returns the URL for a store: `redis+cluster://` and the primaries at the start.
    pub fn url(&self) -> String {
        let primaries: Vec<_> = (0..PRIMARIES).map(|node| self.announced_address(node)).collect();
        format!("redis+cluster://{}", primaries.join(","))
    }

    /// Returns the address that a node listens on. In a [partitionable](Self::start_partitionable) cluster it
    /// announces another address, which forwards to this one.
    pub fn address(&self, node: usize) -> String {
        self.nodes[node].address()
    }

    /// Cuts a node off from all other nodes and from clients. Connections stay open, but nothing passes on them. The
    /// address that the node [listens](Self::address) on stays reachable.
    ///
    /// # Panics
    ///
    /// Panics if the cluster was not [started partitionable](Self::start_partitionable).
    pub fn cut_off(&mut self, node: usize) {
        self.partitioned = Some(node);
        let node = u8::try_from(node).unwrap_or_else(|_| panic!("there are {NODES} nodes"));
        for network in self.networks() {
            network.cut_off(node, |_| true);
        }
    }

    /// [Cuts a node off](Self::cut_off) only from clients.
    pub fn cut_off_clients(&self, node: usize) {
        let node = u8::try_from(node).unwrap_or_else(|_| panic!("there are {NODES} nodes"));
        self.networks()[0].cut_off(node, |with| with == Role::Client);
    }

    /// Heals all links.
    ///
    /// # Panics
    ///
    /// Panics if the cluster was not [started partitionable](Self::start_partitionable).
    pub fn heal(&mut self) {
        self.partitioned = None;
        self.networks().into_iter().for_each(Network::heal);
    }

    /// Silences the links of clients to all nodes. The addresses that nodes listen on stay reachable.
    pub fn silence_clients(&self) {
        self.networks()[0].silence_clients();
    }

    /// Ends the silence for new connections. Open connections stay silent for good.
    pub fn strand_clients(&self) {
        self.networks()[0].strand_clients();
    }

    /// Waits until a node that was cut off follows its successor.
    pub async fn rejoined(&self, node: usize) -> Result<(), ServerError> {
        let address = self.address(node);
        wait_for("see a node follow its successor", || is_synced_replica(&address).boxed()).await
    }

    fn networks(&self) -> [&Network; 2] {
        let Networks { clients, bus } =
            self.networks.as_ref().expect("the cluster was started by `start_partitionable`");
        [clients, bus]
    }

    /// Returns the address that a node announces.
    pub fn announced_address(&self, node: usize) -> String {
        match &self.networks {
            Some(networks) => networks.clients.addresses()[node].to_string(),
            None => self.address(node),
        }
    }

    /// Returns the process of a node, for an operator's actions.
    pub fn process(&mut self, node: usize) -> &mut Process {
        &mut self.nodes[node]
    }

    /// Kills all running nodes, and starts all nodes with their ports, data and command lines. When this
    /// returns, the nodes agree on the owners of slots.
    pub async fn restart_all(&mut self) -> Result<(), ServerError> {
        try_join_all(self.nodes.iter_mut().map(Process::restart)).await?;
        self.owner("any").await.map(drop)
    }

    /// Returns the number of nodes.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

/// Returns the arguments that make a node announce its addresses to clients and to other nodes.
fn announce_arguments(node: u8, clients: &Listeners, bus: &Listeners) -> io::Result<Vec<String>> {
    let (listener, bus) = (clients.address(node)?, bus.address(node)?.port());
    let more = format!(
        "--cluster-announce-ip {} --cluster-announce-port {} --cluster-announce-bus-port {bus}",
        listener.ip(),
        listener.port()
    );
    Ok([clients.arguments(node)?, words(&more)].concat())
}
