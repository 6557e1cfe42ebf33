//! A primary, its replicas, and the sentinels that monitor them.

use super::super::kind::{Kind, Place};
use super::super::process::Extra;
use super::super::server::program;
use super::super::{Process, ServerError, ServerOptions};
use super::command::{is_synced_replica, must_send, send, wait_for};
use super::network::{Listeners, Network, Role};
use super::{REDIS, words};
use futures_util::future::{FutureExt, try_join_all};
use std::fs;
use std::net::SocketAddr;

/// The number of servers: the primary and its replicas.
const SERVERS: u8 = 3;

/// The number of replicas.
const REPLICAS: usize = 2;

/// The number of sentinels.
const SENTINELS: usize = 3;

/// A primary, two replicas and three sentinels, each a child process on loopback. The servers are numbered from 0;
/// at the start, 0 is the primary.
///
/// The sentinels replace a primary that is silent for a second.
///
/// The network to the announced addresses of the servers runs in tasks of the runtime that started this. Nothing
/// passes while that runtime is blocked.
///
/// # Panics
///
/// Methods panic if there is no server with the given number.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<Process>,
    sentinels: Vec<Process>,
    network: Network,
}

impl RedisSentinel {
    /// The name of the primary in the sentinels.
    pub const NAME: &str = "mymaster";

    /// Starts them from the binary on `PATH`.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(super::Redis::options()).await
    }

    /// Starts them from a binary. The arguments in `options` apply to each server; the URL and the image are
    /// ignored.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        const CONNECT: &str = "connect servers with each other";
        let program = program(&REDIS, &options)?;
        let start = |kind: &'static Kind, arguments: &[String]| {
            let (arguments, disk) = (arguments.to_vec(), options.disk.clone());
            let extra = Extra { arguments, disk, ..Extra::default() };
            Process::start(kind, program.clone(), extra)
        };
        let listeners = Listeners::open(SERVERS).await.map_err(ServerError::io(CONNECT))?;
        let mut servers = Vec::new();
        for n in 0..SERVERS {
            let own = listeners.arguments(n).map_err(ServerError::io(CONNECT))?;
            // Starts the sync of a replica at once, without waiting for others.
            let at_once = words("--repl-diskless-sync-delay 0");
            servers.push([&options.arguments[..], &at_once, &own].concat());
        }
        let servers = servers.iter().map(|arguments| start(&REDIS, arguments));
        let sentinels = (0..SENTINELS).map(|_| start(&SENTINEL, &[]));
        let (servers, sentinels) = (try_join_all(servers).await?, try_join_all(sentinels).await?);
        let addresses: Vec<_> = servers.iter().map(Process::socket_address).collect();
        let network = listeners.forward_to(&addresses).await.map_err(ServerError::io(CONNECT))?;
        let all = Self { servers, sentinels, network };
        all.form().await?;
        Ok(all)
    }

    /// Returns the URL for a store: `redis+sentinel://127.0.0.1:P,127.0.0.1:Q,127.0.0.1:R/mymaster`.
    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self.sentinels.iter().map(Process::address).collect();
        format!("redis+sentinel://{}/{}", sentinels.join(","), Self::NAME)
    }

    /// Returns the address that a server listens on. It announces another address, which forwards to this one.
    pub fn address(&self, server: usize) -> String {
        self.servers[server].address()
    }

    /// Returns the process of a server, for an operator's actions.
    pub fn process(&mut self, server: usize) -> &mut Process {
        &mut self.servers[server]
    }

    /// Returns the process of a sentinel, for an operator's actions.
    pub fn sentinel(&mut self, sentinel: usize) -> &mut Process {
        &mut self.sentinels[sentinel]
    }

    /// Cuts a server off from its peers and the sentinels, while clients still reach it. Connections stay open, but
    /// nothing passes on them.
    pub fn cut_off(&self, server: usize) {
        self.network.cut_off(number(server), |with| with != Role::Client);
    }

    /// Cuts a server off from its clients, while its peers and the sentinels still reach it. The address that it
    /// [listens](Self::address) on stays reachable.
    pub fn cut_off_clients(&self, server: usize) {
        self.network.cut_off(number(server), |with| with == Role::Client);
    }

    /// Silences the links of clients to all servers: connections stay open, but nothing passes on them. The addresses
    /// that servers [listen](Self::address) on stay reachable.
    pub fn silence_clients(&self) {
        self.network.silence_clients();
    }

    /// Ends the silence for new connections. Open connections stay silent for good.
    pub fn strand_clients(&self) {
        self.network.strand_clients();
    }

    /// Heals all links.
    pub fn heal(&self) {
        self.network.heal();
    }

    /// Returns the primary, according to all running sentinels and the server itself. Waits for a failover to end.
    pub async fn primary(&self) -> Result<usize, ServerError> {
        wait_for("find the primary that the sentinels name", || self.agreed_primary().boxed()).await
    }

    /// Waits until a server other than `server` is the primary. Returns that server.
    pub async fn successor_of(&self, server: usize) -> Result<usize, ServerError> {
        wait_for("see the sentinels replace a primary", || {
            async move {
                match self.agreed_primary().await? {
                    same if same == server => Err(format!("server {same} is still the primary")),
                    other => Ok(other),
                }
            }
            .boxed()
        })
        .await
    }

    /// Waits until a server that was replaced follows its successor.
    pub async fn rejoined(&self, server: usize) -> Result<(), ServerError> {
        let address = self.address(server);
        wait_for("see a server that was replaced follow its successor", || {
            is_synced_replica(&address).boxed()
        })
        .await
    }

    async fn agreed_primary(&self) -> Result<usize, String> {
        let mut named = None;
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.pid().is_some()) {
            let ask = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", Self::NAME);
            let answer = send(&sentinel.address(), &ask).await?;
            let words: Vec<&str> = answer.lines().collect();
            // *2, $len, host, $len, port
            let [_, _, host, _, port] = words[..] else { return Err(answer) };
            let address: SocketAddr =
                format!("{host}:{port}").parse().map_err(|_| answer.clone())?;
            if *named.get_or_insert(address) != address {
                return Err("the sentinels disagree on the primary".to_owned());
            }
        }
        let named = named.ok_or("no sentinel runs")?;
        let index = self.network.addresses().iter().position(|listener| *listener == named);
        let index =
            index.ok_or_else(|| format!("the primary {named} is not a server of this fixture"))?;
        let role = send(&self.address(index), "INFO replication").await?;
        if !role.contains("role:master") {
            return Err(format!("{named} is not the primary yet"));
        }
        Ok(index)
    }

    /// Makes all servers except the first replicas, and the sentinels monitor them.
    async fn form(&self) -> Result<(), ServerError> {
        let listener = self.network.addresses()[0];
        let (host, port) = (listener.ip(), listener.port());
        for replica in &self.servers[1..] {
            must_send(&replica.address(), &format!("REPLICAOF {host} {port}")).await?;
        }
        wait_for("see the replicas in sync", || {
            async {
                let seen = send(&self.address(0), "INFO replication").await?;
                let in_sync = seen.matches("state=online").count();
                if in_sync == REPLICAS { Ok(()) } else { Err(seen) }
            }
            .boxed()
        })
        .await?;
        let name = Self::NAME;
        for sentinel in &self.sentinels {
            let address = sentinel.address();
            must_send(&address, &format!("SENTINEL MONITOR {name} {host} {port} 2")).await?;
            for setting in
                ["down-after-milliseconds 1000", "failover-timeout 5000", "parallel-syncs 2"]
            {
                must_send(&address, &format!("SENTINEL SET {name} {setting}")).await?;
            }
        }
        wait_for("see the sentinels discover each other and the replicas", || {
            async {
                for sentinel in &self.sentinels {
                    let seen =
                        send(&sentinel.address(), &format!("SENTINEL MASTER {name}")).await?;
                    let others = field(&seen, "num-other-sentinels");
                    let replicas = field(&seen, "num-slaves");
                    if (others, replicas) != (Some(SENTINELS - 1), Some(REPLICAS)) {
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

/// Returns a number from the reply to `SENTINEL MASTER`, in which names and values alternate, each after its length.
fn field(answer: &str, name: &str) -> Option<usize> {
    let mut lines = answer.lines().skip_while(|line| *line != name);
    lines.nth(2)?.parse().ok()
}

/// How to start and probe a sentinel. It stores its state in its configuration file.
static SENTINEL: Kind = Kind {
    name: "redis sentinel",
    port: 26379,
    arguments,
    request: "PING\r\n*x\r\n",
    ready: |reply| reply.starts_with("+PONG"),
    ..REDIS
};

fn arguments(place: &Place<'_>) -> Result<Vec<String>, ServerError> {
    let Place { host, port, data, .. } = place;
    let configuration = data.join("sentinel.conf");
    let data = data.display();
    let source = Role::Sentinel.source();
    let text = format!(
        "port {port}\nbind {host}\nbind-source-addr {source}\ndir {data}\nprotected-mode no\n\
         sentinel announce-ip {host}\nsentinel announce-port {port}\n"
    );
    fs::write(&configuration, text).map_err(ServerError::io("write a sentinel's configuration"))?;
    Ok(vec![configuration.display().to_string(), "--sentinel".to_owned()])
}

fn number(server: usize) -> u8 {
    u8::try_from(server).unwrap_or_else(|_| panic!("there are {SERVERS} servers"))
}
