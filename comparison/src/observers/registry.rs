//! The registry, whatever store it is over.

use super::{BREATH, Change, Diary, Picture, Place, Seen, Stage, Way, Writer, way_to};
use crate::operator::Operator;
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{
    self as core, Claim, Cursor, Instance, InstanceId, Lease, Registry, ServiceName,
};
use registry_etcd::EtcdRegistry;
use registry_mem::{FaultyRegistry, MemRegistry};
use registry_redis::RedisRegistry;
use registry_testbed::servers::{Etcd, EtcdCluster, Redis, RedisSentinel};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

struct Registrant {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    held: HashMap<u8, Lease>,
    operator: Option<Operator>,
    load: String,
    ttl: Duration,
}

struct Watcher {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    diary: Diary,
    cursor: Option<Cursor>,
}

pub(super) async fn on_redis(redis: &Redis, place: Place<'_>) -> Result<Stage> {
    let (address, way) = way_to(redis.address(), place).await?;
    let direct = RedisRegistry::connect(&redis.url().parse()?).await?;
    let disturbed = RedisRegistry::connect(&format!("redis://{address}").parse()?).await?;
    let operator = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    stage(direct, disturbed, place, way, Some(Operator::Redis(operator)))
}

pub(super) async fn on_etcd(etcd: &Etcd, place: Place<'_>) -> Result<Stage> {
    let endpoint = etcd.endpoint();
    let (_, address) = endpoint.split_once("://").context("an endpoint without a scheme")?;
    let (address, way) = way_to(address, place).await?;
    let direct = EtcdRegistry::connect(&etcd.url().parse()?).await?;
    let disturbed = EtcdRegistry::connect(&format!("etcd://{address}").parse()?).await?;
    let operator = etcd_client::Client::connect([etcd.endpoint()], None).await?;
    stage(direct, disturbed, place, way, Some(Operator::Etcd(Box::new(operator))))
}

pub(super) async fn on_sentinel(servers: &RedisSentinel, place: Place<'_>) -> Result<Stage> {
    let direct = RedisRegistry::connect(&servers.url().parse()?).await?;
    let disturbed = RedisRegistry::connect(&servers.url().parse()?).await?;
    stage(direct, disturbed, place, Way::Straight, None)
}

pub(super) async fn on_cluster(members: &EtcdCluster, place: Place<'_>) -> Result<Stage> {
    let direct = EtcdRegistry::connect(&members.url().parse()?).await?;
    let disturbed = EtcdRegistry::connect(&members.url().parse()?).await?;
    stage(direct, disturbed, place, Way::Straight, None)
}

pub(super) fn in_memory(place: Place<'_>) -> Result<Stage> {
    let direct = MemRegistry::new();
    let disturbed = FaultyRegistry::new(direct.clone());
    let (way, operator) = (Way::Memory(disturbed.clone()), Some(Operator::Memory(direct.clone())));
    stage(direct, disturbed, place, way, operator)
}

fn stage(
    direct: impl Registry,
    disturbed: impl Registry,
    Place { name, load, ttl, .. }: Place<'_>,
    way: Way,
    operator: Option<Operator>,
) -> Result<Stage> {
    let (service, diary) = (ServiceName::new(name)?, Diary::default());
    let (direct, disturbed) = (Arc::new(direct), Arc::new(disturbed));
    let watcher = Watcher {
        registry: disturbed,
        service: service.clone(),
        diary: diary.clone(),
        cursor: None,
    };
    let writer = Registrant {
        registry: direct,
        service,
        held: HashMap::new(),
        operator,
        load: "x".repeat(load),
        ttl,
    };
    Ok(Stage { writer: Box::new(writer), observer: Box::pin(watcher.follow()), diary, way })
}

#[async_trait(?Send)]
impl Writer for Registrant {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let Some(value) = value else {
            let lease = self.held.remove(&id).context("it is not there")?;
            return Ok(self.registry.deregister(&lease).await?);
        };
        let instance_id = InstanceId::new(id.to_string())?;
        let instance = Instance::new(self.service.clone(), instance_id, "10.0.0.1:8080".parse()?);
        let mut claim = Claim::new(self.ttl)?;
        if let Some(held) = self.held.get(&id) {
            claim = claim.with_lease(held.id());
        }
        let mut instance = instance.with_weight(value);
        if !self.load.is_empty() {
            instance = instance.with_metadata([("load", self.load.as_str())])?;
        }
        let lease = self.registry.register(&instance, &claim).await?;
        self.held.insert(id, lease);
        Ok(())
    }

    async fn crowd(&mut self, others: usize) -> Result<()> {
        const IN_FLIGHT: usize = 64;
        let register = async |other: usize| {
            let service = ServiceName::new(format!("{}-other-{}", self.service, other / 100))?;
            let id = InstanceId::new(other.to_string())?;
            let instance = Instance::new(service, id, "10.0.0.1:8080".parse()?);
            self.registry.register(&instance, &Claim::new(crate::arms::TTL)?).await?;
            anyhow::Ok(())
        };
        let others = stream::iter((0..others).map(Ok));
        others.try_for_each_concurrent(IN_FLIGHT, register).await
    }

    async fn forget(&mut self) -> Result<bool> {
        let Some(operator) = &mut self.operator else { return Ok(false) };
        operator.forget(&self.service).await?;
        Ok(true)
    }
}

impl Watcher {
    async fn follow(mut self) {
        loop {
            // It goes on from its cursor, unless the store says that it cannot.
            if let Err(error) = self.follow_once().await
                && matches!(error.kind(), core::ErrorKind::Compacted | core::ErrorKind::Diverged)
            {
                self.cursor = None;
            }
            sleep(BREATH).await;
        }
    }

    async fn follow_once(&mut self) -> core::Result<()> {
        let cursor = if let Some(cursor) = &self.cursor {
            cursor.clone()
        } else {
            let snapshot = self.registry.load(&self.service).await?;
            let held = snapshot.instances().iter().map(|one| (number(one.id()), one.weight()));
            self.diary.note_all(held.collect::<Picture>(), Seen::Resynced);
            snapshot.cursor().clone()
        };
        let mut watch = self.registry.watch(&self.service, &cursor).await?;
        self.cursor = Some(cursor);
        while let Some(batch) = watch.next().await {
            for change in &batch?.changes {
                let id = number(change.id());
                let value = match change {
                    core::Change::Put(instance) => Some(instance.weight()),
                    core::Change::Delete(_) => None,
                };
                self.diary.note(Seen::Change(Change { id, value }));
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
