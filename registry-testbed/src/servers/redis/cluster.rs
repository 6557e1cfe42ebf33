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

/// How many nodes have slots.
const PRIMARIES: usize = 3;

/// How many slots a cluster has.
const SLOTS: usize = 16384;

/// How many nodes there are.
const NODES: u8 = 6;

/// A Redis Cluster of three primaries and a replica of each, each a child process on loopback. Nodes are
/// counted from 0: at first 0 to 2 are the primaries and 3 to 5 their replicas.
///
/// A primary that is silent for a second is replaced.
///
/// # Panics
///
/// Where a node is asked for that there is not.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Process>,
    networks: Option<Networks>,
    /// The node that is cut off.
    partitioned: Option<usize>,
}

/// The networks to the nodes of a cluster in which one can be cut off: for clients, and between nodes.
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

    /// Starts a cluster from a binary where `options` say, with their arguments for each node. Their URL
    /// and their image are passed over.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        Self::launch(options, None).await
    }

    /// Starts a cluster of which a node can be [cut off](Self::cut_off): clients and nodes reach each other
    /// through tasks of the runtime that starts this, and stand still while that is blocked.
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

    /// The URL for a store: `redis+cluster://` and the primaries of the beginning.
    pub fn url(&self) -> String {
        let primaries: Vec<_> = (0..PRIMARIES).map(|node| self.announced_address(node)).collect();
        format!("redis+cluster://{}", primaries.join(","))
    }

    /// Where a node listens. In a [partitionable](Self::start_partitionable) cluster it is named by another
    /// address, which leads to this one.
    pub fn address(&self, node: usize) -> String {
        self.nodes[node].address()
    }

    /// Cuts a node off from all others and from clients: what is sent between them vanishes, and their
    /// connections stand. Who goes to where it [listens](Self::address) still gets there.
    ///
    /// # Panics
    ///
    /// If the cluster was not [started partitionable](Self::start_partitionable).
    pub fn cut_off(&mut self, node: usize) {
        self.partitioned = Some(node);
        let node = u8::try_from(node).unwrap_or_else(|_| panic!("there are {NODES} nodes"));
        for network in self.networks() {
            network.cut_off(node, |_| true);
        }
    }

    /// [Cuts a node off](Self::cut_off) from clients only.
    pub fn cut_off_clients(&self, node: usize) {
        let node = u8::try_from(node).unwrap_or_else(|_| panic!("there are {NODES} nodes"));
        self.networks()[0].cut_off(node, |with| with == Role::Client);
    }

    /// Ends what was cut off.
    ///
    /// # Panics
    ///
    /// If the cluster was not [started partitionable](Self::start_partitionable).
    pub fn heal(&mut self) {
        self.partitioned = None;
        self.networks().into_iter().for_each(Network::heal);
    }

    /// Silences the links of clients to all nodes. Who goes to where one listens still gets there.
    pub fn silence_clients(&self) {
        self.networks()[0].silence_clients();
    }

    /// Ends that for new connections. Those that stand stay silent for good.
    pub fn strand_clients(&self) {
        self.networks()[0].strand_clients();
    }

    /// Waits until a node that was cut off follows the one that took over from it.
    pub async fn rejoined(&self, node: usize) -> Result<(), ServerError> {
        let address = self.address(node);
        wait_for("see a node follow the one that took over", || is_synced_replica(&address).boxed())
            .await
    }

    fn networks(&self) -> [&Network; 2] {
        let Networks { clients, bus } =
            self.networks.as_ref().expect("the cluster was started by `start_partitionable`");
        [clients, bus]
    }

    /// Where others are told that a node is.
    pub fn announced_address(&self, node: usize) -> String {
        match &self.networks {
            Some(networks) => networks.clients.addresses()[node].to_string(),
            None => self.address(node),
        }
    }

    /// What an operator can do to a node.
    pub fn process(&mut self, node: usize) -> &mut Process {
        &mut self.nodes[node]
    }

    /// Kills all nodes that run, and starts all of them with the ports, data and command lines they had.
    /// When this returns they are a cluster again.
    pub async fn restart_all(&mut self) -> Result<(), ServerError> {
        try_join_all(self.nodes.iter_mut().map(Process::restart)).await?;
        self.owner("any").await.map(drop)
    }

    /// How many nodes there are.
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
