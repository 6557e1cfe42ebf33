//! An etcd with three members.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use registry_testkit::lag;
use tokio::time::{sleep, timeout};

#[cfg(feature = "tls")]
use super::super::ServerTls;
use super::super::process::{Extra, PORT_TRIES, free_port};
use super::super::server::program;
use super::super::wire::Wire;
use super::super::{Process, ServerError, ServerOptions};
use super::auth;
use super::gateway::{call, field};
use super::kind::ETCD;
use super::network::{MEMBERS, Network, advertised};

/// The timeout until the members agree. An election takes 1 s to 2 s, and a busy machine may need several.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// The timeout of a status request to a member.
const STATUS_WITHIN: Duration = Duration::from_millis(500);

/// A running etcd with three members on loopback. Each is a child process. Members are numbered from 0.
///
/// The network between the members runs in tasks of the runtime that started the cluster. While that runtime is
/// blocked, nothing passes and the cluster loses its leader.
///
/// As in any etcd, a member that lost its data cannot return. To empty the cluster, wipe all members and call
/// [`restart_all`](Self::restart_all): the cluster keeps its id.
///
/// # Panics
///
/// Methods panic if there is no member with the given number.
#[derive(Debug)]
pub struct EtcdCluster {
    url: String,
    members: Vec<Member>,
    network: Network,
    partitioned: Option<usize>,
    wire: Wire,
}

/// A member and its id.
#[derive(Debug)]
struct Member {
    id: String,
    process: Process,
}

/// The status that a member reports.
#[derive(Debug)]
struct Status {
    /// The id of the leader, if the member knows one.
    leader: Option<String>,
    term: String,
}

impl EtcdCluster {
    /// Starts a cluster from the binary on `PATH`.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(super::Etcd::options()).await
    }

    /// Starts a cluster from a binary. The arguments in `options` apply to each member; the URL and the image are
    /// ignored.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        Self::launch(options, Wire::Plain).await
    }

    /// Like [`start_with`](Self::start_with), with TLS for clients, but not between members.
    #[cfg(feature = "tls")]
    pub async fn start_tls(
        mut options: ServerOptions,
        tls: &ServerTls,
    ) -> Result<Self, ServerError> {
        options.arguments.splice(0..0, super::secured(tls));
        Self::launch(options, Wire::Tls(tls.clone())).await
    }

    /// Enables authentication like [`Etcd::enable_auth`](super::Etcd::enable_auth).
    pub async fn enable_auth(&self, prefix: &str) -> Result<(), ServerError> {
        auth::enable(&self.wire, &self.members[0].process.address(), prefix).await
    }

    /// Returns the URL for a store: `etcd://127.0.0.1:P,127.0.0.1:Q,127.0.0.1:R`, with TLS `etcds`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the endpoint of a member for a client or `etcdctl`: `http://127.0.0.1:PORT`, with TLS `https`.
    pub fn endpoint(&self, member: usize) -> String {
        format!("{}://{}", self.wire.scheme(), self.members[member].process.address())
    }

    /// Returns the process of a member, for an operator's actions.
    pub fn process(&mut self, member: usize) -> &mut Process {
        &mut self.members[member].process
    }

    /// Returns the leader: the member that a majority of the members, including itself, reports. Waits for an election
    /// to end.
    pub async fn leader(&self) -> Result<usize, ServerError> {
        let leader = |seen: &[Option<Status>]| self.leader_in(seen);
        self.settle("find the leader of etcd", leader).await
    }

    /// Partitions a member from its peers, while clients still reach it. Connections between members stay open, but
    /// nothing passes on them. Ends the partition of another member.
    ///
    /// When this returns, the member knows no leader, and the others have one.
    pub async fn partition(&mut self, member: usize) -> Result<(), ServerError> {
        assert!(member < MEMBERS, "there are {MEMBERS} members");
        self.network.partition(Some(member));
        self.partitioned = Some(member);
        let is_partitioned = |seen: &[Option<Status>]| {
            let has_no_leader = seen[member].as_ref()?.leader.is_none();
            has_no_leader.then(|| self.leader_in(seen)).flatten().map(drop)
        };
        self.settle("partition a member of etcd from its peers", is_partitioned).await
    }

    /// Ends a [`partition`](Self::partition). When this returns, all running members follow one leader.
    pub async fn heal(&mut self) -> Result<(), ServerError> {
        self.network.partition(None);
        let Some(member) = self.partitioned.take() else { return Ok(()) };
        if self.members[member].process.pid().is_some() {
            self.rejoined(member).await
        } else {
            self.leader().await.map(drop)
        }
    }

    /// Waits until a member that was unreachable follows the leader of the others. A resumed leader still believes
    /// that it leads, and refuses requests until it learns of the new leader.
    pub async fn rejoined(&self, member: usize) -> Result<(), ServerError> {
        let is_back = |seen: &[Option<Status>]| {
            let leader = seen[self.leader_in(seen)?].as_ref()?;
            // The member may return with a higher term, which causes another election.
            let status = seen[member].as_ref()?;
            (status.leader == leader.leader && status.term == leader.term).then_some(())
        };
        self.settle("see a member of etcd rejoin its peers", is_back).await
    }

    /// Kills all running members, and starts all members with their ports, data and command lines. Use this if a
    /// majority is down, since a single member does not become ready.
    pub async fn restart_all(&mut self) -> Result<(), ServerError> {
        try_join_all(self.members.iter_mut().map(|member| member.process.restart())).await.map(drop)
    }

    /// Starts the members. Tries other ports if another process takes one.
    async fn launch(options: ServerOptions, wire: Wire) -> Result<Self, ServerError> {
        let program = program(&ETCD, &options)?;
        let mut tries = 1;
        loop {
            match Self::try_launch(&program, &options, &wire).await {
                Err(error) if error.is_address_in_use() && tries < PORT_TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }

    /// Starts the members, and requests their ids.
    async fn try_launch(
        program: &Path,
        options: &ServerOptions,
        wire: &Wire,
    ) -> Result<Self, ServerError> {
        let peers: [SocketAddr; MEMBERS] =
            std::array::from_fn(|_| (Ipv4Addr::LOCALHOST, free_port()).into());
        let network =
            Network::start(&peers).await.map_err(ServerError::io("connect the members of etcd"))?;
        let token = peers[0].port();
        let members = peers.iter().enumerate().map(|(member, listen)| {
            let mut own = cluster_arguments(member, *listen, token);
            own.extend_from_slice(&options.arguments);
            let environment = network.environment(member);
            let (disk, wire) = (options.disk.clone(), wire.clone());
            let extra = Extra { arguments: own, environment, disk, wire };
            Member::start(program.to_owned(), extra)
        });
        let members = try_join_all(members).await?;
        let addresses: Vec<_> = members.iter().map(|member| member.process.address()).collect();
        let url = wire.url(&ETCD, &addresses.join(","));
        Ok(Self { url, members, network, partitioned: None, wire: wire.clone() })
    }

    /// Returns the member that a majority, including itself, reports as the leader.
    fn leader_in(&self, seen: &[Option<Status>]) -> Option<usize> {
        let named_by = |status: &Option<Status>, id: &str| {
            status.as_ref().is_some_and(|status| status.leader.as_deref() == Some(id))
        };
        self.members.iter().enumerate().position(|(index, member)| {
            let count = seen.iter().filter(|status| named_by(status, &member.id)).count();
            named_by(&seen[index], &member.id) && count > MEMBERS / 2
        })
    }

    /// Polls the status of all members until `expected` returns a value. The error names `action`.
    async fn settle<T>(
        &self,
        action: &'static str,
        expected: impl Fn(&[Option<Status>]) -> Option<T>,
    ) -> Result<T, ServerError> {
        const PAUSE: Duration = Duration::from_millis(20);
        let deadline = lag::deadline(SETTLED_WITHIN);
        loop {
            let seen = join_all(self.members.iter().map(|member| self.status(member))).await;
            if let Some(found) = expected(&seen) {
                return Ok(found);
            }
            if deadline.has_passed() {
                let within = SETTLED_WITHIN;
                return Err(ServerError::NoEffect { action, within, seen: format!("{seen:?}") });
            }
            sleep(PAUSE).await;
        }
    }

    /// Returns the status of a member, if it answers in time.
    async fn status(&self, member: &Member) -> Option<Status> {
        let address = member.process.address();
        let answer = call(&self.wire, &address, "/v3/maintenance/status", "{}");
        let answer = timeout(STATUS_WITHIN, answer).await.ok()?.ok()?;
        let leader = field(&answer, "leader").filter(|id| *id != "0").map(str::to_owned);
        Some(Status { leader, term: field(&answer, "raftTerm")?.to_owned() })
    }
}

impl Member {
    async fn start(program: PathBuf, extra: Extra) -> Result<Self, ServerError> {
        let wire = extra.wire.clone();
        let process = Process::start(&ETCD, program, extra).await?;
        let not_ready = |reason| ServerError::NotReady { server: ETCD.name, reason };
        let answer = call(&wire, &process.address(), "/v3/maintenance/status", "{}").await;
        let answer = answer.map_err(not_ready)?;
        let id = field(&answer, "member_id");
        let id = id
            .ok_or_else(|| not_ready(format!("the status has no member id: {answer}")))?
            .to_owned();
        Ok(Self { id, process })
    }
}

/// Returns the arguments that make a member part of a cluster.
fn cluster_arguments(member: usize, listen: SocketAddr, token: u16) -> Vec<String> {
    let name = |member: usize| format!("member-{member}");
    let url = |member: usize| format!("http://{}:2380", advertised(member));
    let all: Vec<_> = (0..MEMBERS).map(|other| format!("{}={}", name(other), url(other))).collect();
    vec![
        format!("--name={}", name(member)),
        format!("--listen-peer-urls=http://{listen}"),
        format!("--initial-advertise-peer-urls={}", url(member)),
        format!("--initial-cluster={}", all.join(",")),
        format!("--initial-cluster-token=registry-test-cluster-{token}"),
    ]
}
