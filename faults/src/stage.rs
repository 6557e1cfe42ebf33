//! What all schedules need: servers, owners, views, and a record of what the store lists.

use crate::bounds::return_bound;
use crate::cell::RunSpec;
use crate::listing::Listing;
use crate::owner::Owner;
use crate::schedule::Schedule;
use crate::servers::{Link, MEMBERS, Servers, connect};
use crate::side_runtime::SideRuntime;
use crate::spread::{Neighbour, spread};
use crate::tap::Tap;
use crate::topology::Topology;
use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use faults::LagRecord;
use futures_util::future::try_join_all;
use registry_core::{Registry, ServiceName};
use registry_engine::{Discovery, DiscoveryOptions};
use registry_testkit::lag;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The service. On Redis the tests of a Cluster know its shard.
pub(crate) const SERVICE: &str = "user.rpc";

/// How many owners share a connection, as in one process.
const OWNERS_A_PROCESS: usize = 10;

/// How many views there are, each with a connection of its own.
const VIEWS: usize = 3;

/// How long all instances may take to be shown at the start.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Running servers, owners and views.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) spec: RunSpec,
    pub(crate) ttl: Duration,
    pub(crate) service: ServiceName,
    pub(crate) random: Rng,
    pub(crate) owners: Vec<Owner>,
    /// An owner that another incarnation displaced.
    pub(crate) displaced: Option<Owner>,
    pub(crate) taps: Vec<Arc<Tap>>,
    pub(crate) listing: Listing,
    /// Past all links.
    pub(crate) direct: Arc<dyn Registry>,
    pub(crate) owner_link: Link,
    pub(crate) view_link: Link,
    /// A link for each view, where a member of an etcd is to be silent: the view began on the member of its number.
    pub(crate) member_links: Vec<Link>,
    pub(crate) silent_member: Option<usize>,
    /// The runtime that the handles were made on, if not on that of the run.
    pub(crate) side_runtime: Option<SideRuntime>,
    /// Services beside this one.
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) lag: LagRecord,
    pub(crate) servers: Servers,
    /// From here on views show all owners.
    pub(crate) ready_at: Instant,
}

/// What a schedule did, and what is to be expected of it.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) began: Instant,
    /// When the store answered again on new connections.
    pub(crate) healed: Instant,
    /// Whether the views' links were silent, or their servers were down, from one to the other.
    pub(crate) cut_views: bool,
    /// The views that the fault does not concern: they must be live from one to the other.
    pub(crate) spared: Vec<Arc<Tap>>,
    /// Whether the store must list all owners all the time.
    pub(crate) spares_owners: bool,
    /// Whether owners return from when the store unlisted them, and not from the heal.
    pub(crate) from_deletion: bool,
    /// How soon after that owners must be active and listed.
    pub(crate) bound: Duration,
    /// How long to look on after the heal at least.
    pub(crate) tail: Duration,
    /// How the fault took effect.
    pub(crate) proof: String,
    /// How long records were away that were deleted before the last heal.
    pub(crate) returns: Vec<Duration>,
    /// How many views said too late that they are stale, besides those that the states show.
    pub(crate) late_stale: u32,
    pub(crate) double_holders: u32,
    /// What else is wrong.
    pub(crate) problems: Vec<String>,
}

impl Stage {
    pub(crate) async fn open(spec: RunSpec) -> Result<Self> {
        let (lag, ttl) = (LagRecord::start(), spec.cell.ttl());
        let servers = Servers::start(spec.cell.topology).await?;
        let schedule = spec.cell.schedule;
        let silent_member = silent_member(&servers, spec).await?;
        let (owner_link, view_link) = links(&servers, schedule).await?;
        let direct = direct_url(&servers, spec, ttl, silent_member).await?;
        let direct = connect(&direct).await?;
        let service: ServiceName = SERVICE.parse()?;
        let listing = Listing::start(direct.clone(), service.clone());
        let is_lost = schedule == Schedule::LostRuntime;
        let mut side_runtime = is_lost.then(SideRuntime::start).transpose()?;
        let mut handle = async |url: &str| match &mut side_runtime {
            Some(runtime) => runtime.connect(url).await,
            None => connect(url).await,
        };
        let more = if schedule == Schedule::PausedReplicas { "&ack=replicas:1" } else { "" };
        let options = DiscoveryOptions::default().with_retain(!spec.without_retention);
        let (mut taps, mut member_links) = (Vec::new(), Vec::new());
        for view in 0..VIEWS {
            let start = async |registry| {
                Tap::start(Discovery::new(registry, options.clone()).view(&service))
            };
            if silent_member.is_some() {
                let link = servers.link().await?;
                link.keep_only(view);
                let tap = start(connect(&servers.url_behind(&link, ttl)).await?).await;
                let live = async {
                    while !tap.shows(0) {
                        pause().await;
                    }
                };
                lag::timeout(READY_WITHIN, live).await.context("a view does not begin")?;
                link.open();
                taps.push(tap);
                member_links.push(link);
            } else {
                let url = servers.url_behind(&view_link, ttl) + more;
                taps.push(start(handle(&url).await?).await);
            }
        }
        let mut owners = Vec::new();
        let owner_url = servers.url_behind(&owner_link, ttl) + more;
        let ids: Vec<String> = (0..spec.owners).map(|n| format!("owner-{n:03}")).collect();
        for process in ids.chunks(OWNERS_A_PROCESS) {
            let registry = handle(&owner_url).await?;
            let starts = process.iter().map(|id| Owner::start(registry.clone(), &service, id));
            owners.extend(try_join_all(starts).await?);
        }
        let is_spread = matches!(
            (schedule, spec.cell.topology),
            (Schedule::PausedNode | Schedule::SilentNode, Topology::Cluster)
                | (Schedule::PausedReplicas, _)
        );
        let neighbours = if is_spread { spread(&owner_url, &options).await? } else { Vec::new() };
        let mut stage = Self {
            spec,
            ttl,
            service,
            random: Rng::with_seed(spec.seed),
            owners,
            displaced: None,
            taps,
            listing,
            direct,
            owner_link,
            view_link,
            member_links,
            silent_member,
            side_runtime,
            neighbours,
            lag,
            servers,
            ready_at: Instant::now(),
        };
        let ready = lag::timeout(READY_WITHIN, async {
            while !stage.is_whole() {
                pause().await;
            }
        });
        ready.await.context("the views do not show all owners at the start")?;
        stage.ready_at = Instant::now();
        // Renewals are then anywhere in their interval.
        sleep(ttl.mul_f64(stage.random.f64())).await;
        ensure!(stage.is_whole(), "owners or views are in trouble before the fault");
        Ok(stage)
    }

    /// Returns whether all owners are active and listed, and all views live and whole.
    pub(crate) fn is_whole(&self) -> bool {
        let is_there = |owner: &Owner| owner.is_active() && self.listing.has(owner.id());
        let is_near = |one: &Neighbour| one.owner.is_active() && one.tap.shows(1);
        self.owners.iter().all(is_there)
            && self.taps.iter().all(|tap| tap.shows(self.owners.len()))
            && self.neighbours.iter().all(is_near)
    }

    /// Returns the views of all services.
    pub(crate) fn all_taps(&self) -> impl Iterator<Item = &Arc<Tap>> {
        self.taps.iter().chain(self.neighbours.iter().map(|one| &one.tap))
    }

    /// Returns whether the schedule needs no more time: all are back, and the least time to look on has passed.
    async fn settled(&self, evidence: &Evidence) {
        tokio::time::sleep_until(evidence.healed + evidence.tail).await;
        while !self.is_whole() {
            pause().await;
        }
    }

    /// Waits until all have recovered, or should have long ago.
    pub(crate) async fn settle(&self, evidence: &Evidence) {
        /// How much later than at the bound an owner may return until it is given up.
        const GRACE: Duration = Duration::from_secs(15);
        let limit = evidence.bound.max(evidence.tail) + GRACE;
        if tokio::time::timeout_at(evidence.healed + limit, self.settled(evidence)).await.is_err() {
            tracing::warn!("not all have recovered");
        }
    }

    /// Returns how long a fault lasts.
    pub(crate) fn fault_length(&mut self, least: u64, most: u64) -> Duration {
        /// Longer than a ttl of 5 s, and until a backoff that doubles has grown.
        const QUICK: Duration = Duration::from_secs(12);
        let length = Duration::from_millis(self.random.u64(least * 1_000..=most * 1_000));
        if self.spec.quick { QUICK } else { length }
    }
}

impl Evidence {
    /// A fault of the store or of all links, after which owners must return within the return bound.
    pub(crate) fn of_outage(began: Instant, healed: Instant, ttl: Duration, proof: String) -> Self {
        /// Retention that ends one ttl too early shows in the tail.
        const MORE: Duration = Duration::from_secs(2);
        Self {
            began,
            healed,
            cut_views: true,
            spared: Vec::new(),
            spares_owners: false,
            from_deletion: false,
            bound: return_bound(ttl),
            tail: return_bound(ttl).max(ttl) + MORE,
            proof,
            returns: Vec::new(),
            late_stale: 0,
            double_holders: 0,
            problems: Vec::new(),
        }
    }

    /// A fault that nobody may notice, from `began` until now.
    pub(crate) fn of_no_outage(stage: &Stage, began: Instant, proof: String) -> Self {
        let spared = stage.all_taps().cloned().collect();
        let evidence = Self::of_outage(began, Instant::now(), stage.ttl, proof);
        Self { cut_views: false, spared, spares_owners: true, ..evidence }
    }
}

/// Returns the links of owners and of views.
async fn links(servers: &Servers, schedule: Schedule) -> Result<(Link, Link)> {
    Ok(match schedule {
        Schedule::SilentLink | Schedule::SlowBacklog => {
            (servers.link().await?, servers.link().await?)
        }
        Schedule::SilentFeed => {
            let views = servers.link().await?;
            // Which reads the logs, on Redis.
            views.0.iter().for_each(|proxy| proxy.mark("XREAD"));
            (Link::default(), views)
        }
        _ => (Link::default(), Link::default()),
    })
}

/// Returns the member that is to be silent: one that follows, so that no election is needed.
async fn silent_member(servers: &Servers, spec: RunSpec) -> Result<Option<usize>> {
    Ok(match (servers, spec.cell.schedule) {
        (Servers::EtcdThree(members), Schedule::PausedNode | Schedule::SilentNode) => {
            let other = 1 + usize::from(spec.seed % 2 == 1);
            Some((members.leader().await? + other) % MEMBERS)
        }
        _ => None,
    })
}

async fn direct_url(
    servers: &Servers,
    spec: RunSpec,
    ttl: Duration,
    silent: Option<usize>,
) -> Result<String> {
    if let (Servers::EtcdThree(members), Some(silent)) = (servers, silent) {
        return Ok(Servers::url_without(members, silent, ttl));
    }
    let replicated = matches!(spec.cell.topology, Topology::Sentinel | Topology::Cluster);
    let past_faults = match spec.cell.schedule {
        Schedule::SilentLink | Schedule::PausedNode | Schedule::SilentNode => replicated,
        Schedule::PausedLeader => true,
        _ => false,
    };
    if past_faults { servers.direct_url(ttl).await } else { Ok(servers.url(ttl)) }
}

/// Waits a moment, until something is looked at again.
pub(crate) async fn pause() {
    sleep(Duration::from_millis(10)).await;
}
