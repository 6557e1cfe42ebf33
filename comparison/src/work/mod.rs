//! What is measured: the operations, each prepared for one arm and then timed as often as wanted.

mod changes;
mod deaths;
mod fan_out;
mod leases;

pub use self::deaths::Dying;

use self::changes::{RegisterToWatch, Resume, Resync};
use self::fan_out::FanOut;
use self::leases::{Deregister, KeepAlive, Load, Register};
use crate::arms::ours::Ours;
use crate::arms::{Arm, Request, TTL};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{Claim, Instance, LeaseId, ServiceName};
use registry_mem::MemRegistry;
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How long one call of [`Lane::time`] may take. A server that stands still fails the run.
const DEADLINE: Duration = Duration::from_secs(60);

/// An operation to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums)]
pub enum Work {
    /// Register an instance that nobody registered before.
    Register,
    /// Withdraw a registration.
    Deregister,
    /// Register one and withdraw it.
    RegisterDeregister,
    /// Renew a registration.
    KeepAlive,
    /// Read all instances of a service, so many.
    Load(usize),
    /// Register, until a watch that was open before has the event in hand.
    RegisterToWatch,
    /// Register, until the last of so many subscribers in this process has the event in hand.
    FanOut(usize),
    /// Open a watch so many changes back, until it has given them all.
    Resume(usize),
    /// Open a watch where the store has forgotten the history, until it said so, all instances of the
    /// service, so many, are read, and a watch is open again.
    Resync(usize),
}

/// The name of its group of benchmarks.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register => f.pad("register"),
            Self::Deregister => f.pad("deregister"),
            Self::RegisterDeregister => f.pad("register_deregister"),
            Self::KeepAlive => f.pad("keep_alive"),
            Self::Load(count) => f.pad(&format!("load/{count}")),
            Self::RegisterToWatch => f.pad("register_to_watch"),
            Self::FanOut(count) => f.pad(&format!("fan_out/{count}")),
            Self::Resume(count) => f.pad(&format!("resume/{count}")),
            Self::Resync(count) => f.pad(&format!("resync/{count}")),
        }
    }
}

/// Prepared work.
#[async_trait(?Send)]
pub trait Timed {
    /// Does the work `n` times. How long that took, without preparing it and clearing away after it.
    async fn time(&mut self, n: u64) -> Result<Duration>;

    /// Withdraws what was registered to prepare it.
    async fn finish(self: Box<Self>) -> Result<()>;
}

/// Who can be given work to do: an [`Arm`], of whatever kind.
#[async_trait(?Send)]
pub trait Contender {
    /// Prepares `work`, under a service name used for nothing else.
    async fn prepare(&self, work: Work) -> Result<Box<dyn Timed>>;

    /// Has instances die, and says of each by how much longer than its ttl it was seen.
    async fn deaths(&self, dying: Dying) -> Result<Vec<Duration>>;
}

#[async_trait(?Send)]
impl<A: Arm> Contender for A {
    async fn prepare(&self, work: Work) -> Result<Box<dyn Timed>> {
        let (arm, names) = (self.clone(), Names::new(work)?);
        Ok(match work {
            Work::Register => Box::new(Register { arm, names, and_deregister: false }),
            Work::Deregister => Box::new(Deregister { arm, names }),
            Work::RegisterDeregister => Box::new(Register { arm, names, and_deregister: true }),
            Work::KeepAlive => Box::new(KeepAlive::prepare(arm, names).await?),
            Work::Load(count) => Box::new(Load::prepare(arm, names, count).await?),
            Work::RegisterToWatch => Box::new(RegisterToWatch::prepare(arm, names).await?),
            Work::FanOut(count) => Box::new(FanOut::prepare(arm, names, count).await?),
            Work::Resume(count) => Box::new(Resume::prepare(arm, names, count).await?),
            Work::Resync(count) => Box::new(Resync::prepare(arm, names, count).await?),
        })
    }

    async fn deaths(&self, dying: Dying) -> Result<Vec<Duration>> {
        within("deaths", deaths::see(self, Names::new(Work::Register)?, dying)).await
    }
}

/// A contender at its work: what the benchmarks and the paired runs measure.
pub struct Lane {
    label: String,
    timed: Box<dyn Timed>,
}

impl Lane {
    /// Prepares `work` for `contender`. The label is for errors.
    pub async fn prepare(label: &str, contender: &dyn Contender, work: Work) -> Result<Self> {
        let label = format!("{work} on {label}");
        let timed = within(&label, contender.prepare(work)).await?;
        Ok(Self { label, timed })
    }

    /// A lane for work that was prepared already.
    pub fn new(label: impl Into<String>, timed: Box<dyn Timed>) -> Self {
        Self { label: label.into(), timed }
    }

    /// Does the work `n` times, and says how long that took.
    ///
    /// # Errors
    ///
    /// What failed, or that it took longer than a minute.
    pub async fn time(&mut self, n: u64) -> Result<Duration> {
        within(&self.label, self.timed.time(n)).await
    }

    /// Clears away what it prepared.
    pub async fn finish(self) -> Result<()> {
        within(&self.label, self.timed.finish()).await
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lane").field(&self.label).finish()
    }
}

/// A registry in memory that nothing was done with yet, but for registering an instance of each of so
/// many services.
///
/// Its history is short. It is full in no time, and then to drop the oldest batch costs the same in every
/// registry; with the usual one, those that are not full yet would look faster for seconds.
pub async fn mem_with_others(services: usize) -> Result<Ours> {
    let mem = Ours::new(MemRegistry::with_history_limit(1_000));
    for n in 0..services {
        let service = ServiceName::new(format!("other-{n}"))?;
        mem.register(&Names { service, drawn: 0 }.request()?).await?;
    }
    Ok(mem)
}

/// The length of the records that are registered, in bytes.
pub fn record_len() -> Result<usize> {
    let request = Names::new(Work::Register)?.request()?;
    Ok(registry_core::record::encode(&request.instance).len())
}

/// A service that nothing else uses, and the instances to register in it.
#[derive(Debug)]
pub struct Names {
    service: ServiceName,
    drawn: u64,
}

impl Names {
    /// The server may be one that earlier runs used, too.
    pub fn new(work: Work) -> Result<Self> {
        static RUN: LazyLock<LeaseId> = LazyLock::new(LeaseId::random);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (run, count) = (*RUN, COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { service: ServiceName::new(format!("{work}-{run}-{count}"))?, drawn: 0 })
    }

    /// The service.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The next instance, and a claim for it.
    pub fn request(&mut self) -> Result<Request> {
        self.drawn += 1;
        let [.., a, b, c] = self.drawn.to_be_bytes();
        let id = format!("node-{}", self.drawn).parse()?;
        let address = format!("10.{a}.{b}.{c}:8080").parse()?;
        let instance = Instance::new(self.service.clone(), id, address).with_metadata([
            ("zone", "eu-central-1a"),
            ("version", "2.31.4"),
            ("protocol", "grpc"),
            ("commit", "9f8a2c1d7e6b5a4f3c2d1e0f9a8b7c6d5e4f3a2b"),
        ])?;
        Ok(Request { instance, claim: Claim::new(TTL)? })
    }

    /// Registers so many instances.
    async fn register<A: Arm>(&mut self, arm: &A, count: usize) -> Result<Vec<A::Held>> {
        let requests = (0..count).map(|_| self.request()).collect::<Result<Vec<_>>>()?;
        let held = stream::iter(&requests).map(|request| arm.register(request));
        held.buffer_unordered(IN_FLIGHT).try_collect().await
    }
}

/// How many requests are under way at once while something is prepared or cleared away.
const IN_FLIGHT: usize = 32;

/// Withdraws registrations.
async fn deregister<A: Arm>(arm: &A, held: Vec<A::Held>) -> Result<()> {
    let held = stream::iter(held).map(Ok);
    held.try_for_each_concurrent(IN_FLIGHT, |held| arm.deregister(held)).await
}

async fn within<T>(label: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = timeout(DEADLINE, work).await;
    outcome
        .with_context(|| format!("{label}: no end after {DEADLINE:?}"))?
        .with_context(|| label.to_owned())
}
