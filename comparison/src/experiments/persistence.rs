//! *Persistence differs*: a server is killed under writes, and started again. What of all it acknowledged is
//! gone? And who is still listed after an outage that outlasts the leases?

use super::{Effort, Progress, as_f64, side_by_side};
use crate::paired::Spread;
use crate::report::finding::{Bar, Bars, Exhibit, Finding, Plot, Verdict};
use crate::stores::Where;
use anyhow::{Context, Result, ensure};
use registry_core::{Claim, Instance, InstanceId, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use registry_redis::RedisRegistry;
use registry_testkit::servers::{Etcd, Process, Redis, ServerOptions};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a lease lasts that an outage is to outlast. etcd grants no less than 2 s.
const SHORT: Duration = Duration::from_secs(3);

/// How long the outage is.
const OUTAGE: Duration = Duration::from_secs(5);

/// How many instances are there when it begins.
const INSTANCES: usize = 50;

/// How long a server may take to come back and answer.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// A store with what it does to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums)]
pub enum Mode {
    /// The registry on a Redis as it comes: no append-only file, a snapshot now and then.
    RedisAsItComes,
    /// With an append-only file, synced each second.
    RedisEverySecond,
    /// With an append-only file, synced before each answer.
    RedisAlways,
    /// Plain keys with a ttl on the latter.
    PlainKeys,
    /// The registry on etcd.
    Etcd,
}

/// What became of one round.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Run {
    /// Registrations that were acknowledged before the server was killed.
    pub acknowledged: usize,
    /// Of these, those that are not there when it is back.
    pub lost: usize,
    /// Instances that were there, alive, when an outage began that outlasted their leases.
    pub there: usize,
    /// Of these, those that are listed after it, before anybody renewed.
    pub listed: usize,
}

/// All rounds of each mode.
pub type Runs = BTreeMap<Mode, Vec<Run>>;

/// Makes the experiment.
///
/// # Errors
///
/// If a server is missing, fails, or survives.
pub async fn run(at: Where, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let once = async |mode: Mode, _| once(mode, &at, effort).await.with_context(|| mode.name());
    finding(&side_by_side(&Mode::ALL, effort, progress, once).await?, effort)
}

impl Mode {
    const ALL: [Self; 5] = [
        Self::RedisAsItComes,
        Self::RedisEverySecond,
        Self::RedisAlways,
        Self::PlainKeys,
        Self::Etcd,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RedisAsItComes => "registry on Redis, as it comes",
            Self::RedisEverySecond => "registry on Redis, AOF everysec",
            Self::RedisAlways => "registry on Redis, AOF always",
            Self::PlainKeys => "plain keys with a ttl, AOF always",
            Self::Etcd => "registry on etcd",
        }
    }

    /// What Redis is told besides. What it comes with is what its own configuration says.
    fn arguments(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::RedisAsItComes => &["--save", "3600 1 300 100 60 10000"],
            Self::RedisEverySecond => &["--appendonly", "yes", "--appendfsync", "everysec"],
            Self::RedisAlways | Self::PlainKeys => {
                &["--appendonly", "yes", "--appendfsync", "always"]
            }
            Self::Etcd => &[],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// A server of this round, and how it is used.
enum Server {
    Etcd(Etcd),
    Redis(Redis),
}

/// How instances are held in it.
enum Keeper {
    Registry(Arc<dyn Registry>, ServiceName),
    Keys(redis::aio::MultiplexedConnection),
}

impl Server {
    async fn start(mode: Mode, at: &Where) -> Result<Self> {
        let own = |options: &ServerOptions| ServerOptions {
            url: None,
            arguments: mode.arguments(),
            ..options.clone()
        };
        Ok(match mode {
            Mode::Etcd => Self::Etcd(Etcd::start_with(own(&at.etcd)).await?),
            _ => Self::Redis(Redis::start_with(own(&at.redis)).await?),
        })
    }

    async fn keeper(&self, mode: Mode) -> Result<Keeper> {
        let service = ServiceName::new("persistence")?;
        Ok(match self {
            Self::Etcd(etcd) => {
                let registry = EtcdRegistry::connect(&etcd.url().parse()?).await?;
                Keeper::Registry(Arc::new(registry), service)
            }
            Self::Redis(redis) if mode == Mode::PlainKeys => {
                let client = redis::Client::open(redis.url())?;
                Keeper::Keys(client.get_multiplexed_async_connection().await?)
            }
            Self::Redis(redis) => {
                let registry = RedisRegistry::connect(&redis.url().parse()?).await?;
                Keeper::Registry(Arc::new(registry), service)
            }
        })
    }

    fn process(&mut self) -> Result<&mut Process> {
        Ok(match self {
            Self::Etcd(etcd) => etcd.process()?,
            Self::Redis(redis) => redis.process()?,
        })
    }
}

impl Keeper {
    async fn register(&self, id: usize, ttl: Duration) -> Result<()> {
        match self {
            Self::Registry(registry, service) => {
                let id = InstanceId::new(id.to_string())?;
                let instance = Instance::new(service.clone(), id, "10.0.0.1:8080".parse()?);
                registry.register(&instance, &Claim::new(ttl)?).await?;
            }
            Self::Keys(redis) => {
                let mut set = redis::cmd("SET");
                set.arg(format!("instance:{id}")).arg("10.0.0.1:8080").arg("PX");
                set.arg(u64::try_from(ttl.as_millis())?);
                set.exec_async(&mut redis.clone()).await?;
            }
        }
        Ok(())
    }

    async fn listed(&self) -> Result<Vec<usize>> {
        Ok(match self {
            Self::Registry(registry, service) => {
                let snapshot = registry.load(service).await?;
                let ids = snapshot.instances().ids().map(|id| id.as_str().parse());
                ids.collect::<Result<_, _>>()?
            }
            Self::Keys(redis) => {
                let keys = redis::cmd("KEYS").arg("instance:*").to_owned();
                let keys: Vec<String> = keys.query_async(&mut redis.clone()).await?;
                let ids = keys.iter().map(|key| key.trim_start_matches("instance:").parse());
                ids.collect::<Result<_, _>>()?
            }
        })
    }
}

async fn once(mode: Mode, at: &Where, effort: Effort) -> Result<Run> {
    let mut server = Server::start(mode, at).await?;
    let keeper = server.keeper(mode).await?;
    let length = Duration::from_millis(if effort.quick { 300 } else { 2_000 });
    let acknowledged = killed_under_writes(&mut server, &keeper, length).await?;
    server.process()?.restart().await?;
    let left = back(&server, mode).await?;
    let lost = (0..acknowledged).filter(|id| !left.contains(id)).count();
    drop(server);

    let mut server = Server::start(mode, at).await?;
    let keeper = server.keeper(mode).await?;
    for id in 0..INSTANCES {
        keeper.register(id, SHORT).await?;
    }
    let there = keeper.listed().await?.len();
    if mode == Mode::RedisAsItComes {
        // What is not on disk is lost, which is shown already.
        if let Server::Redis(redis) = &server {
            let mut operator =
                redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
            redis::cmd("SAVE").exec_async(&mut operator).await?;
        }
    }
    server.process()?.kill()?;
    sleep(OUTAGE).await;
    server.process()?.restart().await?;
    let listed = back(&server, mode).await?.len();
    Ok(Run { acknowledged, lost, there, listed })
}

/// Registers one instance after the other, and kills the server meanwhile. How many it acknowledged.
async fn killed_under_writes(
    server: &mut Server,
    keeper: &Keeper,
    length: Duration,
) -> Result<usize> {
    let (end, mut acknowledged) = (Instant::now() + length, 0);
    let writes = async {
        // The first that fails is the end: whether it was made nobody knows.
        while keeper.register(acknowledged, crate::arms::TTL).await.is_ok() {
            acknowledged += 1;
        }
    };
    let operator = async {
        tokio::time::sleep_until(end).await;
        server.process()?.kill()?;
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        () = writes => {}
        outcome = operator => outcome?,
    }
    ensure!(server.process()?.pid().is_none(), "invalid: the server was not killed");
    ensure!(acknowledged > 10, "invalid: only {acknowledged} writes were acknowledged");
    Ok(acknowledged)
}

/// What a server that is back lists, to who comes anew.
async fn back(server: &Server, mode: Mode) -> Result<Vec<usize>> {
    let listed = async {
        loop {
            if let Ok(keeper) = server.keeper(mode).await
                && let Ok(listed) = keeper.listed().await
            {
                return listed;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(BACK_WITHIN, listed).await.context("it did not come back")
}

/// What the figures say.
fn finding(runs: &Runs, effort: Effort) -> Result<Finding> {
    let spread = |mode: Mode, figure: fn(&Run) -> usize| {
        Spread::of(runs[&mode].iter().map(|run| as_f64(figure(run))))
    };
    let lost = |mode| spread(mode, |run| run.lost);
    let percent = |run: &Run| run.lost * 100 / run.acknowledged;
    let vanished = |mode| spread(mode, |run| run.there - run.listed);
    let head = [
        "",
        "acknowledged",
        "lost when killed",
        "of these %",
        "alive before an outage",
        "listed after it",
    ];
    let rows = Mode::ALL.map(|mode| {
        vec![
            mode.name().to_owned(),
            spread(mode, |run| run.acknowledged).to_string(),
            lost(mode).to_string(),
            spread(mode, percent).to_string(),
            spread(mode, |run| run.there).to_string(),
            spread(mode, |run| run.listed).to_string(),
        ]
    });
    let bars = Mode::ALL.map(|mode| {
        let parts = vec![spread(mode, percent).median];
        Bar { name: mode.name().to_owned(), parts }
    });
    let verdict = judge(lost(Mode::RedisAsItComes), lost(Mode::RedisAlways), lost(Mode::Etcd));
    Ok(Finding {
        name: "persistence",
        claim: "persistence differs",
        verdict,
        figure: format!(
            "acknowledged and lost when killed: Redis as it comes {}, AOF everysec {}, AOF always {}, etcd {}; vanished in an outage longer than the leases: plain keys {} of {INSTANCES}, registry on Redis {}, on etcd {}",
            lost(Mode::RedisAsItComes),
            lost(Mode::RedisEverySecond),
            lost(Mode::RedisAlways),
            lost(Mode::Etcd),
            vanished(Mode::PlainKeys),
            vanished(Mode::RedisAlways),
            vanished(Mode::Etcd),
        ),
        reason: match verdict {
            Verdict::Confirmed => "A Redis loses what it acknowledged, whatever it is told, and etcd does not.",
            Verdict::InPart => "A Redis as it comes loses what it acknowledged when it is killed, and etcd does not; a Redis with an append-only file that is synced before each answer does not either.",
            Verdict::Refuted => "Nothing shows a difference.",
        }
        .to_owned(),
        exhibits: vec![Exhibit {
            title: "Acknowledged registrations that a killed server lost, in percent".to_owned(),
            notes: Vec::new(),
            plot: Plot::Bars(Bars { parts: vec!["lost".to_owned()], bars: bars.to_vec() }),
            head: head.map(str::to_owned).to_vec(),
            rows: rows.to_vec(),
        }],
        method: vec![
            "Instances are registered one after the other, and the server is killed meanwhile (SIGKILL) and started again with its data. Lost is what was acknowledged and is not listed then.".to_owned(),
            "A kill leaves what the kernel was given: this is a crash of the server and not of the machine, so that `everysec` loses nothing here and up to a second of writes when the power fails.".to_owned(),
            format!("Then {INSTANCES} instances with leases of {} s are there when another server is killed, which is away for {} s. Listed is who a newcomer is shown when it is back, before anybody renewed. (The Redis as it comes was told to save before.) On Redis the registry's leases run on a clock of their own that stands still in an outage, and etcd begins all leases anew.", SHORT.as_secs(), OUTAGE.as_secs()),
            "Median of the rounds, with least and most. Verdict: confirmed if Redis loses something as it comes and with `always`, and etcd nothing; in part if only as it comes; else refuted.".to_owned(),
        ],
        repeat: super::repeat("persistence", effort),
        raw: serde_json::to_value(runs)?,
    })
}

/// By what was lost, each in all rounds.
fn judge(as_it_comes: Spread, always: Spread, etcd: Spread) -> Verdict {
    match (as_it_comes.min > 0.0, always.max > 0.0, etcd.max > 0.0) {
        (true, true, false) => Verdict::Confirmed,
        (true, false, false) => Verdict::InPart,
        _ => Verdict::Refuted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_figures_lead_to_another_verdict() {
        let spread = |min, max| Spread { median: min, min, max };
        let (none, some) = (spread(0.0, 0.0), spread(3.0, 9.0));
        assert_eq!(judge(some, none, none), Verdict::InPart);
        assert_eq!(judge(some, some, none), Verdict::Confirmed);
        assert_eq!(judge(some, none, some), Verdict::Refuted);
        assert_eq!(judge(none, none, none), Verdict::Refuted);
        assert_eq!(judge(spread(0.0, 9.0), none, none), Verdict::Refuted, "not in every round");
    }
}
