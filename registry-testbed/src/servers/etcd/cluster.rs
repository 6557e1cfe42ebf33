//! An etcd of three members.

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

/// How long a cluster may take until it is of one mind. An election takes 1 s to 2 s, and on a busy
/// machine several may be needed.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// How long a member may take to say what it sees.
const STATUS_WITHIN: Duration = Duration::from_millis(500);

/// A running etcd of three members, each a child process, counted from 0. All of it is on loopback.
///
/// The network between the members runs in tasks of the runtime that started it: it stands still
/// while that is blocked, and the cluster loses its leader.
///
/// A member that lost its data cannot come back, as in any etcd: wipe all of them and
/// [`restart_all`](Self::restart_all), and the cluster is empty and has the same id.
///
/// # Panics
///
/// Where a member is asked for that there is not.
#[derive(Debug)]
pub struct EtcdCluster {
    url: String,
    members: Vec<Member>,
    network: Network,
    cut_off: Option<usize>,
    wire: Wire,
}

/// A member, and what etcd calls it.
#[derive(Debug)]
struct Member {
    id: String,
    process: Process,
}

/// What a member sees.
#[derive(Debug)]
struct Status {
    /// The id of the leader, if it sees one.
    leader: Option<String>,
    term: String,
}

impl EtcdCluster {
    /// Starts a cluster from the binary on `PATH`.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(super::Etcd::options()).await
    }

    /// Starts a cluster from a binary where `options` say, with their arguments for each member.
    /// Their URL and their image are passed over.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        Self::launch(options, Wire::Plain).await
    }

    /// Like [`start_with`](Self::start_with), and the members speak TLS with clients, not with each
    /// other.
    #[cfg(feature = "tls")]
    pub async fn start_tls(
        mut options: ServerOptions,
        tls: &ServerTls,
    ) -> Result<Self, ServerError> {
        options.arguments.splice(0..0, super::secured(tls));
        Self::launch(options, Wire::Tls(tls.clone())).await
    }

    /// Makes users and turns authentication on, as [`Etcd::enable_auth`](super::Etcd::enable_auth).
    pub async fn enable_auth(&self, prefix: &str) -> Result<(), ServerError> {
        auth::enable(&self.wire, &self.members[0].process.address(), prefix).await
    }

    /// The URL for a store: `etcd://127.0.0.1:P,127.0.0.1:Q,127.0.0.1:R`, with TLS `etcds`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The endpoint of a member for a client or for `etcdctl`: `http://127.0.0.1:PORT`, with TLS `https`.
    pub fn endpoint(&self, member: usize) -> String {
        format!("{}://{}", self.wire.scheme(), self.members[member].process.address())
    }

    /// What an operator can do to a member.
    pub fn process(&mut self, member: usize) -> &mut Process {
        &mut self.members[member].process
    }

    /// The member that leads: itself and another say so. Waits for it through an election.
    pub async fn leader(&self) -> Result<usize, ServerError> {
        let leader = |seen: &[Option<Status>]| self.leader_in(seen);
        self.settle("find the leader of etcd", leader).await
    }

    /// Cuts a member off from its peers, while clients still reach it: what members send to each
    /// other vanishes, and their connections stand. If another one was cut off, it is no more.
    ///
    /// When this returns the member knows of no leader, and the others have one.
    pub async fn partition(&mut self, member: usize) -> Result<(), ServerError> {
        assert!(member < MEMBERS, "there are {MEMBERS} members");
        self.network.cut_off(Some(member));
        self.cut_off = Some(member);
        let is_cut_off = |seen: &[Option<Status>]| {
            let alone = seen[member].as_ref()?.leader.is_none();
            alone.then(|| self.leader_in(seen)).flatten().map(drop)
        };
        self.settle("cut a member of etcd off from its peers", is_cut_off).await
    }

    /// Ends a [`partition`](Self::partition). When this returns all members that run follow one
    /// leader.
    pub async fn heal(&mut self) -> Result<(), ServerError> {
        self.network.cut_off(None);
        let Some(member) = self.cut_off.take() else { return Ok(()) };
        if self.members[member].process.pid().is_some() {
            self.rejoined(member).await
        } else {
            self.leader().await.map(drop)
        }
    }

    /// Waits until a member that was away follows the leader of the others: one that was paused
    /// still takes itself for what it was, and refuses what it is asked until it knows better.
    pub async fn rejoined(&self, member: usize) -> Result<(), ServerError> {
        let is_back = |seen: &[Option<Status>]| {
            let leader = seen[self.leader_in(seen)?].as_ref()?;
            // It comes back with a term of its own, and the others may then vote again.
            let status = seen[member].as_ref()?;
            (status.leader == leader.leader && status.term == leader.term).then_some(())
        };
        self.settle("join a member of etcd to its peers again", is_back).await
    }

    /// Kills all members that run, and starts all of them with the ports, data and command lines
    /// they had. Where a majority is down this is the way back: one alone never becomes ready.
    pub async fn restart_all(&mut self) -> Result<(), ServerError> {
        try_join_all(self.members.iter_mut().map(|member| member.process.restart())).await.map(drop)
    }

    /// Starts the members, on other ports if somebody took those.
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

    /// Starts the members and asks for their ids.
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
            let mut own = in_cluster(member, *listen, token);
            own.extend_from_slice(&options.arguments);
            let environment = network.environment(member);
            let (disk, wire) = (options.disk.clone(), wire.clone());
            let extra = Extra { arguments: own, environment, disk, wire };
            Member::start(program.to_owned(), extra)
        });
        let members = try_join_all(members).await?;
        let addresses: Vec<_> = members.iter().map(|member| member.process.address()).collect();
        let url = wire.url(&ETCD, &addresses.join(","));
        Ok(Self { url, members, network, cut_off: None, wire: wire.clone() })
    }

    /// The member that leads, if it and another see that.
    fn leader_in(&self, seen: &[Option<Status>]) -> Option<usize> {
        let named_by = |status: &Option<Status>, id: &str| {
            status.as_ref().is_some_and(|status| status.leader.as_deref() == Some(id))
        };
        self.members.iter().enumerate().position(|(index, member)| {
            let voices = seen.iter().filter(|status| named_by(status, &member.id)).count();
            named_by(&seen[index], &member.id) && voices > MEMBERS / 2
        })
    }

    /// Asks all members until they show what is expected, or else says what `action` failed.
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

    /// What a member sees, if it answers.
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
        let id = id.ok_or_else(|| not_ready(format!("it has no id: {answer}")))?.to_owned();
        Ok(Self { id, process })
    }
}

/// What makes a single member one of a cluster.
fn in_cluster(member: usize, listen: SocketAddr, token: u16) -> Vec<String> {
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
