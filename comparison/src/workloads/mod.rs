//! The workloads, one per file. A workload is prepared for one arm and then timed repeatedly.

mod deregister;
pub mod expiry;
pub mod fan_out;
mod follow;
mod keep_alive;
mod load;
pub mod pick;
mod register;
mod register_to_watch;
mod resume;
mod update;

pub use self::expiry::ExpiryPlan;
pub use self::fan_out::{FanOut, Subscription};
pub use self::pick::{Pick, Picks};

use crate::arms::{Arm, Ours, Request, TTL};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{Claim, Instance, LeaseId, ServiceName};
use registry_mem::MemRegistry;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The timeout of one call of [`Runner::time`].
const DEADLINE: Duration = Duration::from_secs(60);

/// The number of requests in flight during preparation and cleanup.
pub const IN_FLIGHT: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    Register,
    Deregister,
    /// Register a new instance and keep it until the end, so that only registrations are counted.
    RegisterMore,
    Update,
    KeepAlive,
    /// Load a service of this many instances.
    Load(usize),
    /// Register, and wait until an open watch yields the event.
    RegisterToWatch,
    /// Open a live view of a service of this many instances.
    Follow(usize),
    /// Open a watch from a cursor before this many changes, and read the changes.
    Resume(usize),
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register => f.pad("register"),
            Self::Deregister => f.pad("deregister"),
            Self::RegisterMore => f.pad("register_more"),
            Self::Update => f.pad("update"),
            Self::KeepAlive => f.pad("keep_alive"),
            Self::Load(count) => f.pad(&format!("load/{count}")),
            Self::RegisterToWatch => f.pad("register_to_watch"),
            Self::Follow(count) => f.pad(&format!("follow/{count}")),
            Self::Resume(count) => f.pad(&format!("resume/{count}")),
        }
    }
}

pub type BoxTimed = Box<dyn Timed>;

/// A workload on an arm, ready to be timed.
#[async_trait(?Send)]
pub trait Timed {
    /// Runs the workload `n` times. Returns the time taken, without preparation and cleanup.
    async fn time(&mut self, n: u64) -> Result<Duration>;

    /// Deregisters the instances of the preparation.
    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A workload that is a closure over an arm and the leases of the preparation.
struct Prepared<A: Arm, F> {
    arm: A,
    leases: Vec<A::Lease>,
    run: F,
}

impl<A: Arm, F> Prepared<A, F>
where
    F: AsyncFnMut(&A, &mut Vec<A::Lease>, u64) -> Result<Duration> + 'static,
{
    #[expect(clippy::new_ret_no_self, reason = "callers need a trait object")]
    fn new(arm: A, leases: Vec<A::Lease>, run: F) -> BoxTimed {
        Box::new(Self { arm, leases, run })
    }
}

#[async_trait(?Send)]
impl<A: Arm, F> Timed for Prepared<A, F>
where
    F: AsyncFnMut(&A, &mut Vec<A::Lease>, u64) -> Result<Duration> + 'static,
{
    async fn time(&mut self, n: u64) -> Result<Duration> {
        (self.run)(&self.arm, &mut self.leases, n).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.leases).await
    }
}

/// A workload that is a closure without preparation. The drop of its result is not timed.
pub struct Repeated<F>(pub F);

#[async_trait(?Send)]
impl<T, F: AsyncFnMut() -> Result<T>> Timed for Repeated<F> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let outcome = (self.0)().await?;
            total += start.elapsed();
            drop(outcome);
        }
        Ok(total)
    }
}

/// An [`Arm`] as a trait object.
#[async_trait(?Send)]
pub trait Contender {
    /// Prepares a workload with its own service.
    async fn prepare(&self, workload: Workload) -> Result<BoxTimed>;
}

#[async_trait(?Send)]
impl<A: Arm> Contender for A {
    async fn prepare(&self, workload: Workload) -> Result<BoxTimed> {
        let (arm, generator) = (self.clone(), RequestGenerator::new(workload)?);
        match workload {
            Workload::Register => Ok(register::prepare(arm, generator, false)),
            Workload::RegisterMore => Ok(register::prepare(arm, generator, true)),
            Workload::Deregister => Ok(deregister::prepare(arm, generator)),
            Workload::Update => update::prepare(arm, generator).await,
            Workload::KeepAlive => keep_alive::prepare(arm, generator).await,
            Workload::Load(count) => load::prepare(arm, generator, count).await,
            Workload::RegisterToWatch => register_to_watch::prepare(arm, generator).await,
            Workload::Follow(count) => follow::prepare(arm, generator, count).await,
            Workload::Resume(count) => resume::prepare(arm, generator, count).await,
        }
    }
}

pub struct Runner {
    label: String,
    timed: BoxTimed,
}

impl Runner {
    /// Prepares a workload for an arm. Errors name the label.
    pub async fn prepare(label: &str, arm: &dyn Contender, workload: Workload) -> Result<Self> {
        let label = format!("{workload} on {label}");
        let timed = with_deadline(&label, arm.prepare(workload)).await?;
        Ok(Self { label, timed })
    }

    pub fn new(label: impl Into<String>, timed: impl Timed + 'static) -> Self {
        Self { label: label.into(), timed: Box::new(timed) }
    }

    /// Runs the workload `n` times, and returns the time taken.
    pub async fn time(&mut self, n: u64) -> Result<Duration> {
        with_deadline(&self.label, self.timed.time(n)).await
    }

    pub async fn finish(self) -> Result<()> {
        with_deadline(&self.label, self.timed.finish()).await
    }
}

async fn with_deadline<T>(label: &str, task: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = timeout(DEADLINE, task).await;
    outcome
        .with_context(|| format!("{label}: timed out after {DEADLINE:?}"))?
        .with_context(|| label.to_owned())
}

/// Returns a new registry in memory with one instance in each of `services` services.
///
/// A change to a full history also drops its oldest batch. A short history is full after few changes, so all registries
/// pay that cost. With the default length, a registry whose history is not full yet would look faster for seconds.
pub async fn mem_with_others(services: usize) -> Result<Ours> {
    let mem = Ours::new(Arc::new(MemRegistry::with_history_limit(1_000)));
    for n in 0..services {
        let service = ServiceName::new(format!("other-{n}"))?;
        mem.register(&RequestGenerator { service, drawn: 0 }.request()?).await?;
    }
    Ok(mem)
}

pub fn record_len() -> Result<usize> {
    let request = RequestGenerator::new(Workload::Register)?.request()?;
    Ok(request.record()?.len())
}

/// A generator of requests to register instances of a unique service.
#[derive(Debug)]
pub struct RequestGenerator {
    pub service: ServiceName,
    drawn: u64,
}

impl RequestGenerator {
    /// Returns a generator for a service with a unique name, because the server may hold data of earlier runs.
    pub fn new(workload: Workload) -> Result<Self> {
        static RUN: LazyLock<LeaseId> = LazyLock::new(LeaseId::random);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (run, count) = (*RUN, COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { service: ServiceName::new(format!("{workload}-{run}-{count}"))?, drawn: 0 })
    }

    pub fn request(&mut self) -> Result<Request> {
        self.drawn += 1;
        let [.., a, b, c] = self.drawn.to_be_bytes();
        let id = format!("node-{}", self.drawn).parse()?;
        let address = format!("10.{a}.{b}.{c}:8080").parse()?;
        let instance = Instance::from_parts(self.service.clone(), id, address).with_metadata([
            ("zone", "eu-central-1a"),
            ("version", "2.31.4"),
            ("protocol", "grpc"),
            ("commit", "9f8a2c1d7e6b5a4f3c2d1e0f9a8b7c6d5e4f3a2b"),
        ]);
        Ok(Request { instance, claim: Claim::new(TTL)? })
    }

    pub fn requests(&mut self, count: usize) -> Result<Vec<Request>> {
        (0..count).map(|_| self.request()).collect()
    }

    pub async fn register<A: Arm>(&mut self, arm: &A, count: usize) -> Result<Vec<A::Lease>> {
        let requests = self.requests(count)?;
        let registrations = stream::iter(&requests).map(|request| arm.register(request));
        registrations.buffer_unordered(IN_FLIGHT).try_collect().await
    }
}

pub async fn deregister<A: Arm>(arm: &A, leases: Vec<A::Lease>) -> Result<()> {
    let leases = stream::iter(leases).map(Ok);
    leases.try_for_each_concurrent(IN_FLIGHT, |lease| arm.deregister(lease)).await
}
