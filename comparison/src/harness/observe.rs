//! Clients of a service through any arm, and a log of the events that an observer sees.

use crate::arms::{Arm, Recovery, Request, TTL};
use crate::workloads::expiry::{self, ExpiryPlan};
use anyhow::{Context, Result};
use async_trait::async_trait;
use registry_core::{self as core, InstanceId, ServiceName};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The time that an observer waits before it reconnects.
const RECONNECT_DELAY: Duration = Duration::from_millis(10);

/// A new value of an instance, unique in the workload, or its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub id: u8,
    /// `None` for a deletion.
    pub value: Option<u32>,
}

pub type Values = BTreeMap<u8, u32>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first full read.
    Initial(Values),
    /// The watch has started.
    Watching,
    Change(Change),
    /// A full read, because the observer cannot detect missed changes.
    Reread(Values),
    /// A full read, because the store reported compacted changes.
    Resynced(Values),
}

/// The events that an observer saw, with their times.
pub type EventLog = RefCell<Vec<(Instant, Event)>>;

/// A client of one service through any arm.
#[async_trait(?Send)]
pub trait Client {
    async fn register(&self, id: &str, ttl: Duration) -> Result<()>;

    async fn listed(&self) -> Result<BTreeSet<String>>;

    /// Writes a change and waits for the acknowledgement.
    async fn write(&mut self, change: Change) -> Result<()>;

    /// Follows the service forever and logs the events. Reconnects after failures.
    async fn follow(&self, log: &EventLog) -> Infallible;

    /// Lets instances of a separate service expire, and returns for each how long after its ttl the expiry was seen.
    async fn expirations(&self, plan: ExpiryPlan<'_>) -> Result<Vec<Duration>>;
}

struct ArmClient<A: Arm> {
    arm: A,
    service: ServiceName,
    /// The payload of each written instance, in addition to its value.
    payload: String,
    leases: HashMap<u8, A::Lease>,
}

impl Change {
    /// Returns the `n`th change of a round robin over `ids` instances. Its value is `n`.
    pub fn round_robin(n: u32, ids: u8) -> Self {
        let [id, ..] = (n % u32::from(ids)).to_le_bytes(); // less than `ids`
        Self { id, value: Some(n) }
    }
}

/// Returns a client of a service through an arm.
pub fn client(arm: impl Arm, service: &str, payload_len: usize) -> Result<Box<dyn Client>> {
    let (service, payload) = (service.parse()?, "x".repeat(payload_len));
    Ok(Box::new(ArmClient { arm, service, payload, leases: HashMap::new() }))
}

impl<A: Arm> ArmClient<A> {
    /// Follows the service until the watch fails. Without a cursor it starts with a full read.
    async fn follow_watch(&self, log: &EventLog, cursor: &mut Option<A::Cursor>) -> Result<()> {
        let (arm, service) = (&self.arm, &self.service);
        let record = |event| log.borrow_mut().push((Instant::now(), event));
        let read_all = async |event: fn(Values) -> Event| {
            let loaded = arm.load(service).await?;
            let value = |record: &core::Record| (number(record.id()), record.instance().weight());
            let values = loaded.iter().map(value).collect();
            let is_first = log.borrow().is_empty();
            record(if is_first { Event::Initial(values) } else { event(values) });
            anyhow::Ok(())
        };
        let resumes = A::RECOVERY == Recovery::Resume;
        let start = match &*cursor {
            Some(cursor) => cursor.clone(),
            None => arm.cursor(service).await?,
        };
        if resumes && cursor.is_none() {
            read_all(Event::Resynced).await?;
        }
        let mut watch = arm.watch(service, &start).await?;
        if resumes {
            *cursor = Some(start);
        } else if A::RECOVERY == Recovery::Reread {
            read_all(Event::Reread).await?;
        }
        record(Event::Watching);
        loop {
            for change in arm.next(&mut watch).await? {
                let value = match &change {
                    core::Change::Put(record) => Some(record.instance().weight()),
                    core::Change::Delete(_) => None,
                };
                record(Event::Change(Change { id: number(change.id()), value }));
            }
            if resumes {
                *cursor = Some(arm.position(&watch));
            }
        }
    }
}

#[async_trait(?Send)]
impl<A: Arm> Client for ArmClient<A> {
    async fn register(&self, id: &str, ttl: Duration) -> Result<()> {
        self.arm.register(&Request::new(&self.service, id, ttl)?).await.map(drop)
    }

    async fn listed(&self) -> Result<BTreeSet<String>> {
        let loaded = self.arm.load(&self.service).await?;
        Ok(loaded.iter().map(|record| record.id().to_string()).collect())
    }

    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let Some(value) = value else {
            let lease = self.leases.remove(&id).context("the instance is not registered")?;
            return self.arm.deregister(lease).await;
        };
        let mut request = Request::new(&self.service, &id.to_string(), TTL)?;
        request.instance = request.instance.with_weight(value);
        if !self.payload.is_empty() {
            request.instance = request.instance.with_metadata([("load", self.payload.as_str())]);
        }
        let lease = match self.leases.get(&id) {
            Some(lease) => self.arm.update(lease, &request).await?,
            None => self.arm.register(&request).await?,
        };
        self.leases.insert(id, lease);
        Ok(())
    }

    /// Ignores errors, because an observer reconnects.
    async fn follow(&self, log: &EventLog) -> Infallible {
        let mut cursor = None;
        loop {
            if let Err(error) = self.follow_watch(log, &mut cursor).await
                && A::is_gap(&error)
            {
                cursor = None;
            }
            sleep(RECONNECT_DELAY).await;
        }
    }

    async fn expirations(&self, plan: ExpiryPlan<'_>) -> Result<Vec<Duration>> {
        expiry::observe(&self.arm, plan).await
    }
}

/// Parses an id of the workload, which is a number.
fn number(id: &InstanceId) -> u8 {
    id.as_str().parse().unwrap_or(u8::MAX)
}
