//! A primary, its replicas, and the sentinels that watch over them.

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

/// How many servers there are: the primary, and its replicas.
const SERVERS: u8 = 3;

/// How many replicas there are.
const REPLICAS: usize = 2;

/// How many sentinels there are.
const SENTINELS: usize = 3;

/// Servers under Sentinel: a primary, two replicas and three sentinels, each a child process on loopback.
/// The servers are counted from 0; at first 0 is the primary.
///
/// A primary that is silent for a second is replaced.
///
/// The links to the servers, as the sentinels name them, lead through tasks of the runtime that started
/// this: they stand still while that is blocked.
///
/// # Panics
///
/// Where a server is asked for that there is not.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<Process>,
    sentinels: Vec<Process>,
    network: Network,
}

impl RedisSentinel {
    /// What the sentinels call the primary.
    pub const NAME: &str = "mymaster";

    /// Starts them from the binary on `PATH`.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(super::Redis::options()).await
    }

    /// Starts them from a binary where `options` say, with their arguments for each server. Their URL and
    /// their image are passed over.
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
            // A replica gets what it lacks at once, and not after waiting for others.
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

    /// The URL for a store: `redis+sentinel://127.0.0.1:P,127.0.0.1:Q,127.0.0.1:R/mymaster`.
    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self.sentinels.iter().map(Process::address).collect();
        format!("redis+sentinel://{}/{}", sentinels.join(","), Self::NAME)
    }

    /// Where a server listens. It is named by another address, which leads to this one.
    pub fn address(&self, server: usize) -> String {
        self.servers[server].address()
    }

    /// What an operator can do to a server.
    pub fn process(&mut self, server: usize) -> &mut Process {
        &mut self.servers[server]
    }

    /// What an operator can do to a sentinel.
    pub fn sentinel(&mut self, sentinel: usize) -> &mut Process {
        &mut self.sentinels[sentinel]
    }

    /// Cuts a server off from its peers and from the sentinels, while clients still reach it: what is sent
    /// between them vanishes, and their connections stand.
    pub fn cut_off(&self, server: usize) {
        self.network.cut_off(number(server), |with| with != Role::Client);
    }

    /// Cuts a server off from its clients, while its peers and the sentinels still reach it. Who goes to where
    /// it [listens](Self::address) still gets there.
    pub fn cut_off_clients(&self, server: usize) {
        self.network.cut_off(number(server), |with| with == Role::Client);
    }

    /// Silences the links of clients to all servers: connections stand, and nothing flows on them. Who goes to where
    /// a server [listens](Self::address) still gets there.
    pub fn silence_clients(&self) {
        self.network.silence_clients();
    }

    /// Ends that for new connections. Those that stand stay silent for good.
    pub fn strand_clients(&self) {
        self.network.strand_clients();
    }

    /// Ends what was cut off.
    pub fn heal(&self) {
        self.network.heal();
    }

    /// The server that is the primary to all sentinels that run, and says so itself. Waits for that
    /// through a failover.
    pub async fn primary(&self) -> Result<usize, ServerError> {
        wait_for("find the primary that the sentinels name", || self.named().boxed()).await
    }

    /// Waits until a server other than `server` is the primary.
    pub async fn successor_of(&self, server: usize) -> Result<usize, ServerError> {
        wait_for("see the sentinels replace a primary", || {
            async move {
                match self.named().await? {
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

    async fn named(&self) -> Result<usize, String> {
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
                return Err("the sentinels are not of one mind".to_owned());
            }
        }
        let named = named.ok_or("no sentinel runs")?;
        let index = self.network.addresses().iter().position(|listener| *listener == named);
        let index = index.ok_or_else(|| format!("{named} is none of ours"))?;
        let role = send(&self.address(index), "INFO replication").await?;
        if !role.contains("role:master") {
            return Err(format!("{named} is not the primary yet"));
        }
        Ok(index)
    }

    /// Makes replicas of all but the first, and the sentinels watch over them.
    async fn form(&self) -> Result<(), ServerError> {
        let listener = self.network.addresses()[0];
        let (host, port) = (listener.ip(), listener.port());
        for replica in &self.servers[1..] {
            must_send(&replica.address(), &format!("REPLICAOF {host} {port}")).await?;
        }
        wait_for("see the replicas in step", || {
            async {
                let seen = send(&self.address(0), "INFO replication").await?;
                let in_step = seen.matches("state=online").count();
                if in_step == REPLICAS { Ok(()) } else { Err(seen) }
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
        wait_for("see the sentinels know of each other and of the replicas", || {
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

/// A number in the answer to `SENTINEL MASTER`: names and values in turn, each behind its length.
fn field(answer: &str, name: &str) -> Option<usize> {
    let mut lines = answer.lines().skip_while(|line| *line != name);
    lines.nth(2)?.parse().ok()
}

/// How a sentinel is run and recognised. It keeps what it knows in its configuration.
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
