//! Observers under faults: a writer changes a service by an arm, and an observer follows it by the same arm, on a
//! link that is cut or paused. All observers log the events they see of the same workload under the same faults.

use crate::arms::{Arm, Recovery, Request, TTL};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;
use registry_core::{self as core, InstanceId, ServiceName};
use registry_mem::{Fault as MemFault, FaultyRegistry};
use registry_testbed::proxy::{Fault, Proxy};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long an observer waits before it reconnects.
const RECONNECT_DELAY: Duration = Duration::from_millis(10);

/// The new value of one instance, which is used once, or its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub id: u8,
    /// The value; `None` for a deletion.
    pub value: Option<u32>,
}

/// The value of each instance.
pub type Values = BTreeMap<u8, u32>;

/// What an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All values, read at the start.
    Initial(Values),
    /// A single change.
    Change(Change),
    /// All values, read because the observer cannot detect missed changes.
    Reread(Values),
    /// All values, read because the store reported that changes are compacted.
    Resynced(Values),
}

/// The events that an observer saw, with the time of each. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct EventLog(Rc<RefCell<Vec<(Instant, Event)>>>);

/// How an arm is opened.
#[derive(Clone, Copy, Debug)]
pub struct ArmOptions<'a> {
    /// The name of the service: unique on the servers.
    pub name: &'a str,
    /// How many bytes each instance carries beside its value.
    pub payload_len: usize,
    /// Whether the observer connects through a proxy, to inject faults. The proxy adds latency.
    pub via_proxy: bool,
}

/// Changes the store.
#[async_trait(?Send)]
pub trait Writer {
    /// Writes a change, and returns when it is acknowledged.
    async fn write(&mut self, change: Change) -> Result<()>;

    /// Compacts the history of the store. Returns whether the store has one.
    async fn compact(&mut self) -> Result<bool>;
}

/// An opened arm: a writer, and an observer with its log.
pub struct OpenArm {
    /// The writer, on a link without faults.
    pub writer: Box<dyn Writer>,
    /// Follows the store forever, across all failures.
    pub observer: LocalBoxFuture<'static, ()>,
    /// The events it has seen.
    pub log: EventLog,
    /// The link of the observer.
    pub link: Link,
}

/// The link of an observer to its store, on which faults are injected.
#[derive(Debug)]
pub enum Link {
    /// Through a proxy.
    Proxy(Proxy),
    /// A connection within this process.
    Memory(FaultyRegistry),
    /// Directly to the servers. No fault is injected on the link; a server fails instead.
    Direct,
}

impl Change {
    /// Returns the `n`th change of a round robin over so many instances. Its value is `n`.
    pub fn round_robin(n: u32, ids: u8) -> Self {
        let [id, ..] = (n % u32::from(ids)).to_le_bytes(); // less than `ids`
        Self { id, value: Some(n) }
    }
}

impl EventLog {
    /// Records a full read: as the initial one, or else as `reread`.
    fn record_all(&self, values: Values, reread: fn(Values) -> Event) {
        let event =
            if self.0.borrow().is_empty() { Event::Initial(values) } else { reread(values) };
        self.record(event);
    }

    fn record(&self, event: Event) {
        self.0.borrow_mut().push((Instant::now(), event));
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.borrow().iter().map(|(_, event)| event.clone()).collect()
    }

    /// Returns the single changes, with the time of each.
    pub fn changes(&self) -> Vec<(Instant, Change)> {
        let change = |(at, event): &(Instant, Event)| match event {
            Event::Change(change) => Some((*at, *change)),
            _ => None,
        };
        self.0.borrow().iter().filter_map(change).collect()
    }
}

impl Link {
    /// Cuts the link: connections are reset, and new ones are refused until it is healed.
    pub fn cut(&self) {
        match self {
            Self::Proxy(proxy) => {
                proxy.inject(Fault::Refuse);
                proxy.reset();
            }
            Self::Memory(registry) => registry.inject(MemFault::Outage),
            Self::Direct => {}
        }
    }

    /// Pauses the link: connections stay open, and nothing passes until it is healed.
    pub fn pause(&self) {
        match self {
            Self::Proxy(proxy) => proxy.inject(Fault::Blackhole),
            Self::Memory(registry) => registry.inject(MemFault::Silence),
            Self::Direct => {}
        }
    }

    /// Ends the fault.
    pub fn heal(&self) {
        match self {
            Self::Proxy(proxy) => proxy.heal(),
            Self::Memory(registry) => registry.heal(),
            Self::Direct => {}
        }
    }

    /// Returns how many connections, or calls and watches, the faults have hit so far.
    pub fn hits(&self) -> u64 {
        match self {
            Self::Proxy(proxy) => {
                let hits = proxy.hits();
                hits.reset + hits.held_directions
            }
            Self::Memory(registry) => {
                let hits = registry.hits();
                hits.watches_ended + hits.calls_cut + hits.calls_refused + hits.watches_silenced
            }
            Self::Direct => 0,
        }
    }
}

/// Returns the address that an observer connects to, and its link to the server.
pub(crate) async fn link_to(address: &str, options: ArmOptions<'_>) -> Result<(String, Link)> {
    if !options.via_proxy {
        return Ok((address.to_owned(), Link::Direct));
    }
    let proxy = Proxy::start(address.parse()?).await?;
    Ok((proxy.address().to_string(), Link::Proxy(proxy)))
}

pub(crate) fn opened<A: Arm>(
    writer: A,
    observer: A,
    ArmOptions { name, payload_len, .. }: ArmOptions<'_>,
    link: Link,
) -> Result<OpenArm> {
    let (service, log) = (ServiceName::new(name)?, EventLog::default());
    let (payload, leases) = ("x".repeat(payload_len), HashMap::new());
    Ok(OpenArm {
        writer: Box::new(ArmWriter { arm: writer, service: service.clone(), leases, payload }),
        observer: Box::pin(follow(observer, service, log.clone())),
        log,
        link,
    })
}

struct ArmWriter<A: Arm> {
    arm: A,
    service: ServiceName,
    leases: HashMap<u8, A::Lease>,
    payload: String,
}

#[async_trait(?Send)]
impl<A: Arm> Writer for ArmWriter<A> {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let Some(value) = value else {
            let lease = self.leases.remove(&id).context("the instance is not registered")?;
            return self.arm.deregister(lease).await;
        };
        let mut request = Request::new(&self.service, &id.to_string(), TTL)?;
        request.instance = request.instance.with_weight(value);
        if !self.payload.is_empty() {
            request.instance = request.instance.with_metadata([("load", self.payload.as_str())])?;
        }
        let lease = match self.leases.get(&id) {
            Some(lease) => self.arm.update(lease, &request).await?,
            None => self.arm.register(&request).await?,
        };
        self.leases.insert(id, lease);
        Ok(())
    }

    async fn compact(&mut self) -> Result<bool> {
        let has_history = A::RECOVERY == Recovery::Resume;
        if has_history {
            self.arm.compact(&self.service).await?;
        }
        Ok(has_history)
    }
}

/// Follows forever. Errors are dropped: an observer reconnects and goes on.
async fn follow<A: Arm>(arm: A, service: ServiceName, log: EventLog) {
    let mut cursor = None;
    loop {
        if let Err(error) = follow_once(&arm, &service, &log, &mut cursor).await
            && A::is_gap(&error)
        {
            cursor = None;
        }
        sleep(RECONNECT_DELAY).await;
    }
}

async fn follow_once<A: Arm>(
    arm: &A,
    service: &ServiceName,
    log: &EventLog,
    cursor: &mut Option<A::Cursor>,
) -> Result<()> {
    let read_all = async |event: fn(Values) -> Event| {
        let loaded = arm.load(service).await?;
        let values = loaded.iter().map(|record| (number(record.id()), record.instance().weight()));
        log.record_all(values.collect(), event);
        anyhow::Ok(())
    };
    let resumes = A::RECOVERY == Recovery::Resume;
    let from = match &*cursor {
        Some(cursor) => cursor.clone(),
        None => arm.cursor(service).await?,
    };
    if resumes && cursor.is_none() {
        read_all(Event::Resynced).await?;
    }
    let mut watch = arm.watch(service, &from).await?;
    if resumes {
        *cursor = Some(from);
    } else if A::RECOVERY == Recovery::Reread {
        read_all(Event::Reread).await?;
    }
    loop {
        for change in arm.next(&mut watch).await? {
            let value = match &change {
                core::Change::Put(record) => Some(record.instance().weight()),
                core::Change::Delete(_) => None,
            };
            log.record(Event::Change(Change { id: number(change.id()), value }));
        }
        if resumes {
            *cursor = Some(arm.position(&watch));
        }
    }
}

/// All ids of the workload are numbers.
fn number(id: &InstanceId) -> u8 {
    id.as_str().parse().unwrap_or(u8::MAX)
}
