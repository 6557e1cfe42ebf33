//! The registry on any store.

use super::{
    ArmOptions, Change, Event, EventLog, Link, OpenArm, RECONNECT_DELAY, Values, Writer, link_to,
};
use crate::operator::Operator;
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{
    self as core, CallOptions, Claim, Cursor, Instance, InstanceId, Lease, Registry, ServiceName,
};
use registry_etcd::EtcdRegistry;
use registry_mem::{FaultyRegistry, MemRegistry};
use registry_redis::RedisRegistry;
use registry_testbed::servers::{Etcd, EtcdCluster, Redis, RedisSentinel};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

struct RegistryWriter {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    leases: HashMap<u8, Lease>,
    operator: Option<Operator>,
    payload: String,
    ttl: Duration,
}

struct RegistryObserver {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    log: EventLog,
    cursor: Option<Cursor>,
}

pub(super) async fn on_redis(redis: &Redis, options: ArmOptions<'_>) -> Result<OpenArm> {
    let (address, link) = link_to(redis.address(), options).await?;
    let direct = RedisRegistry::connect(&redis.url().parse()?).await?;
    let faulty = RedisRegistry::connect(&format!("redis://{address}").parse()?).await?;
    let operator = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    opened(direct, faulty, options, link, Some(Operator::Redis(operator)))
}

pub(super) async fn on_etcd(etcd: &Etcd, options: ArmOptions<'_>) -> Result<OpenArm> {
    let endpoint = etcd.endpoint();
    let (_, address) = endpoint.split_once("://").context("an endpoint without a scheme")?;
    let (address, link) = link_to(address, options).await?;
    let direct = EtcdRegistry::connect(&etcd.url().parse()?).await?;
    let faulty = EtcdRegistry::connect(&format!("etcd://{address}").parse()?).await?;
    let operator = etcd_client::Client::connect([etcd.endpoint()], None).await?;
    opened(direct, faulty, options, link, Some(Operator::Etcd(Box::new(operator))))
}

pub(super) async fn on_sentinel(
    servers: &RedisSentinel,
    options: ArmOptions<'_>,
) -> Result<OpenArm> {
    let direct = RedisRegistry::connect(&servers.url().parse()?).await?;
    let faulty = RedisRegistry::connect(&servers.url().parse()?).await?;
    opened(direct, faulty, options, Link::Direct, None)
}

pub(super) async fn on_cluster(members: &EtcdCluster, options: ArmOptions<'_>) -> Result<OpenArm> {
    let direct = EtcdRegistry::connect(&members.url().parse()?).await?;
    let faulty = EtcdRegistry::connect(&members.url().parse()?).await?;
    opened(direct, faulty, options, Link::Direct, None)
}

pub(super) fn in_memory(options: ArmOptions<'_>) -> Result<OpenArm> {
    let direct = MemRegistry::new();
    let faulty = FaultyRegistry::new(direct.clone());
    let (link, operator) = (Link::Memory(faulty.clone()), Some(Operator::Memory(direct.clone())));
    opened(direct, faulty, options, link, operator)
}

fn opened(
    direct: impl Registry,
    faulty: impl Registry,
    ArmOptions { name, payload_len, ttl, .. }: ArmOptions<'_>,
    link: Link,
    operator: Option<Operator>,
) -> Result<OpenArm> {
    let (service, log) = (ServiceName::new(name)?, EventLog::default());
    let (direct, faulty) = (Arc::new(direct), Arc::new(faulty));
    let observer = RegistryObserver {
        registry: faulty,
        service: service.clone(),
        log: log.clone(),
        cursor: None,
    };
    let writer = RegistryWriter {
        registry: direct,
        service,
        leases: HashMap::new(),
        operator,
        payload: "x".repeat(payload_len),
        ttl,
    };
    Ok(OpenArm { writer: Box::new(writer), observer: Box::pin(observer.follow()), log, link })
}

#[async_trait(?Send)]
impl Writer for RegistryWriter {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let Some(value) = value else {
            let lease = self.leases.remove(&id).context("the instance is not registered")?;
            return Ok(self.registry.deregister(&lease, &CallOptions::DEFAULT).await?);
        };
        let instance_id = InstanceId::new(id.to_string())?;
        let instance = Instance::new(self.service.clone(), instance_id, "10.0.0.1:8080".parse()?);
        let mut claim = Claim::new(self.ttl)?;
        if let Some(lease) = self.leases.get(&id) {
            claim = claim.with_lease(lease.id());
        }
        let mut instance = instance.with_weight(value);
        if !self.payload.is_empty() {
            instance = instance.with_metadata([("load", self.payload.as_str())])?;
        }
        let lease = self.registry.register(&instance, &claim, &CallOptions::DEFAULT).await?;
        self.leases.insert(id, lease);
        Ok(())
    }

    async fn register_others(&mut self, others: usize) -> Result<()> {
        const IN_FLIGHT: usize = 64;
        let register = async |other: usize| {
            let service = ServiceName::new(format!("{}-other-{}", self.service, other / 100))?;
            let id = InstanceId::new(other.to_string())?;
            let instance = Instance::new(service, id, "10.0.0.1:8080".parse()?);
            self.registry
                .register(&instance, &Claim::new(crate::arms::TTL)?, &CallOptions::DEFAULT)
                .await?;
            anyhow::Ok(())
        };
        let others = stream::iter((0..others).map(Ok));
        others.try_for_each_concurrent(IN_FLIGHT, register).await
    }

    async fn compact(&mut self) -> Result<bool> {
        let Some(operator) = &mut self.operator else { return Ok(false) };
        operator.compact(&self.service).await?;
        Ok(true)
    }
}

impl RegistryObserver {
    async fn follow(mut self) {
        loop {
            // It resumes from its cursor, unless the store reports the cursor as unusable.
            if let Err(error) = self.follow_once().await
                && matches!(error.kind(), core::ErrorKind::Compacted | core::ErrorKind::Diverged)
            {
                self.cursor = None;
            }
            sleep(RECONNECT_DELAY).await;
        }
    }

    async fn follow_once(&mut self) -> core::Result<()> {
        let cursor = if let Some(cursor) = &self.cursor {
            cursor.clone()
        } else {
            let snapshot = self.registry.load(&self.service, &CallOptions::DEFAULT).await?;
            let values =
                snapshot.instances().map(|instance| (number(instance.id()), instance.weight()));
            self.log.record_all(values.collect::<Values>(), Event::Resynced);
            snapshot.cursor().clone()
        };
        let mut watch = self.registry.watch(&self.service, &cursor, &CallOptions::DEFAULT).await?;
        self.cursor = Some(cursor);
        while let Some(batch) = watch.next().await {
            for change in &batch?.changes {
                let id = number(change.id());
                let value = match change {
                    core::Change::Put(record) => Some(record.instance().weight()),
                    core::Change::Delete(_) => None,
                };
                self.log.record(Event::Change(Change { id, value }));
            }
            self.cursor = Some(watch.cursor().clone());
        }
        Ok(())
    }
}

/// All ids of the workload are numbers.
fn number(id: &InstanceId) -> u8 {
    id.as_str().parse().unwrap_or(u8::MAX)
}
