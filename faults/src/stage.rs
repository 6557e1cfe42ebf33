//! What all schedules need: servers, owners, views, and a record of what the store lists.

use crate::bounds::return_bound;
use crate::cell::RunSpec;
use crate::listing::Listing;
use crate::owner::Owner;
use crate::schedule::Schedule;
use crate::servers::{Link, Servers, connect};
use crate::starvation::LagRecord;
use crate::tap::Tap;
use crate::topology::Topology;
use anyhow::{Context, Result, ensure};
use fastrand::Rng;
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
        let has_links = matches!(spec.cell.schedule, Schedule::SilentLink | Schedule::SlowBacklog);
        let (owner_link, view_link) = if has_links {
            (servers.link().await?, servers.link().await?)
        } else {
            (Link::default(), Link::default())
        };
        let direct = connect(&direct_url(&servers, spec, ttl).await?).await?;
        let service: ServiceName = SERVICE.parse()?;
        let listing = Listing::start(direct.clone(), service.clone());
        let mut taps = Vec::new();
        for _ in 0..VIEWS {
            let registry = connect(&servers.url_behind(&view_link, ttl)).await?;
            let retain = !spec.without_retention;
            let options = DiscoveryOptions { retain, ..DiscoveryOptions::default() };
            taps.push(Tap::start(Discovery::new(registry, options).view(&service)));
        }
        let mut owners = Vec::new();
        let ids: Vec<String> = (0..spec.owners).map(|n| format!("owner-{n:03}")).collect();
        for process in ids.chunks(OWNERS_A_PROCESS) {
            let registry = connect(&servers.url_behind(&owner_link, ttl)).await?;
            let starts = process.iter().map(|id| Owner::start(registry.clone(), &service, id));
            owners.extend(try_join_all(starts).await?);
        }
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
        self.owners.iter().all(is_there) && self.taps.iter().all(|tap| tap.shows(self.owners.len()))
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
}

async fn direct_url(servers: &Servers, spec: RunSpec, ttl: Duration) -> Result<String> {
    let replicated = matches!(spec.cell.topology, Topology::Sentinel | Topology::Cluster);
    let past_faults = match spec.cell.schedule {
        Schedule::SilentLink => replicated,
        Schedule::PausedLeader => true,
        _ => false,
    };
    if past_faults { servers.direct_url(ttl).await } else { Ok(servers.url(ttl)) }
}

/// Waits a moment, until something is looked at again.
pub(crate) async fn pause() {
    sleep(Duration::from_millis(10)).await;
}
