//! The setup of all schedules: servers, owners, views, and a record of what the store lists.

use crate::bounds::return_bound;
use crate::cell::RunSpec;
use crate::listing::Listing;
use crate::neighbours::{Neighbour, start_neighbours};
use crate::owner::Owner;
use crate::schedule::Schedule;
use crate::servers::{Link, MEMBERS, Servers, connect};
use crate::side_runtime::SideRuntime;
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

/// The service. `KEY` in `servers` names its shard on Redis.
pub(crate) const SERVICE: &str = "user.rpc";

/// The number of owners that share a connection, as in one process.
const OWNERS_A_PROCESS: usize = 10;

/// The number of views, each with its own connection.
const VIEWS: usize = 3;

/// The timeout until all views show all instances at the start.
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
    /// A registry without a link.
    pub(crate) direct: Arc<dyn Registry>,
    pub(crate) owner_link: Link,
    pub(crate) view_link: Link,
    /// A link per view, if one member of etcd is to be silent. Each view starts on the member with its number.
    pub(crate) member_links: Vec<Link>,
    pub(crate) silent_member: Option<usize>,
    /// The runtime that created the handles, if it is not that of the run.
    pub(crate) side_runtime: Option<SideRuntime>,
    /// The other services, if the schedule needs some.
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) lag: LagRecord,
    pub(crate) servers: Servers,
    /// When all views first showed all owners.
    pub(crate) ready_at: Instant,
}

/// What a schedule did, and the expected consequences.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) began: Instant,
    /// When the store accepted new connections again.
    pub(crate) healed: Instant,
    /// Whether the links of views were silent, or their servers down, from `began` to `healed`.
    pub(crate) cut_views: bool,
    /// The views that the fault does not affect: they must be live from `began` to `healed`.
    pub(crate) spared: Vec<Arc<Tap>>,
    /// Whether the store must always list all owners.
    pub(crate) spares_owners: bool,
    /// Whether the bound starts when the store unlists an owner, instead of at the heal.
    pub(crate) from_deletion: bool,
    /// How soon owners must be active and listed again.
    pub(crate) bound: Duration,
    /// The minimum time to observe after the heal.
    pub(crate) tail: Duration,
    /// The evidence that the fault had an effect.
    pub(crate) proof: String,
    /// How long each deleted record was missing.
    pub(crate) returns: Vec<Duration>,
    /// The number of views that became stale too late, in addition to those that the states show.
    pub(crate) late_stale: u32,
    pub(crate) double_holders: u32,
    /// Other failures.
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
        let loses_runtime = schedule == Schedule::LostRuntime;
        let mut side_runtime = loses_runtime.then(SideRuntime::start).transpose()?;
        let mut handle = async |url: &str| match &mut side_runtime {
            Some(runtime) => runtime.connect(url).await,
            None => connect(url).await,
        };
        let ack_option = if schedule == Schedule::PausedReplicas { "&ack=replicas:1" } else { "" };
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
                lag::timeout(READY_WITHIN, live)
                    .await
                    .context("a view is not live at the start")?;
                link.open();
                taps.push(tap);
                member_links.push(link);
            } else {
                let url = servers.url_behind(&view_link, ttl) + ack_option;
                taps.push(start(handle(&url).await?).await);
            }
        }
        let mut owners = Vec::new();
        let owner_url = servers.url_behind(&owner_link, ttl) + ack_option;
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
        let neighbours =
            if is_spread { start_neighbours(&owner_url, &options).await? } else { Vec::new() };
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
        // The fault then hits renewals at a random phase of their interval.
        sleep(ttl.mul_f64(stage.random.f64())).await;
        ensure!(stage.is_whole(), "owners are not active or views are not live before the fault");
        Ok(stage)
    }

    /// Returns whether all owners are active and listed, and all views are live and complete.
    pub(crate) fn is_whole(&self) -> bool {
        let is_registered = |owner: &Owner| owner.is_active() && self.listing.has(owner.id());
        let is_complete = |one: &Neighbour| one.owner.is_active() && one.tap.shows(1);
        self.owners.iter().all(is_registered)
            && self.taps.iter().all(|tap| tap.shows(self.owners.len()))
            && self.neighbours.iter().all(is_complete)
    }

    /// Returns the views of all services.
    pub(crate) fn all_taps(&self) -> impl Iterator<Item = &Arc<Tap>> {
        self.taps.iter().chain(self.neighbours.iter().map(|one| &one.tap))
    }

    /// Waits until the minimum time has passed and all owners and views have recovered.
    async fn settled(&self, evidence: &Evidence) {
        tokio::time::sleep_until(evidence.healed + evidence.tail).await;
        while !self.is_whole() {
            pause().await;
        }
    }

    /// Waits until all owners and views have recovered, or gives up.
    pub(crate) async fn settle(&self, evidence: &Evidence) {
        /// The time after the bound until the wait gives up.
        const GRACE: Duration = Duration::from_secs(15);
        let limit = evidence.bound.max(evidence.tail) + GRACE;
        if tokio::time::timeout_at(evidence.healed + limit, self.settled(evidence)).await.is_err() {
            tracing::warn!("not all owners and views have recovered");
        }
    }

    /// Returns how long a fault lasts: from `least` to `most` seconds, or a fixed time in the short form.
    pub(crate) fn fault_length(&mut self, least: u64, most: u64) -> Duration {
        /// The time in the short form. It is longer than a ttl of 5 s, and long enough for a backoff to grow.
        const QUICK: Duration = Duration::from_secs(12);
        let length = Duration::from_millis(self.random.u64(least * 1_000..=most * 1_000));
        if self.spec.quick { QUICK } else { length }
    }
}

impl Evidence {
    /// Returns the evidence of a fault of the store or all links. Owners must return within the return bound.
    pub(crate) fn of_outage(began: Instant, healed: Instant, ttl: Duration, proof: String) -> Self {
        /// The time added to the tail, which then detects retention that ends one ttl too early.
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

    /// Returns the evidence of a fault until now that no owner or view may notice.
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
            // On Redis, XREAD reads the log.
            views.0.iter().for_each(|proxy| proxy.mark("XREAD"));
            (Link::default(), views)
        }
        _ => (Link::default(), Link::default()),
    })
}

/// Returns the member to silence: a follower, so that there is no election.
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
    let avoids_faults = match spec.cell.schedule {
        Schedule::SilentLink | Schedule::PausedNode | Schedule::SilentNode => replicated,
        Schedule::PausedLeader => true,
        _ => false,
    };
    if avoids_faults { servers.direct_url(ttl).await } else { Ok(servers.url(ttl)) }
}

/// Waits for the next poll.
pub(crate) async fn pause() {
    sleep(Duration::from_millis(10)).await;
}
