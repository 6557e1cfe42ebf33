//! The usual first design on plain Redis: a hash with the records, and a channel to publish changes.

use super::{Arm, Recovery, Request, decoded};
use crate::harness::RedisLink;
use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use redis::Msg;
use registry_core::{Change, Deleted, InstanceId, Record, ServiceName};
use std::collections::HashMap;

/// `HSET` and `PUBLISH`. No record expires. With `REREADS`, a subscriber reads the hash after each connect.
#[derive(Clone)]
pub struct Publish<const REREADS: bool>(pub RedisLink);

/// A subscription to the changes of a service.
pub struct Subscription {
    pub service: ServiceName,
    pub messages: BoxStream<'static, Msg>,
}

impl<const REREADS: bool> Publish<REREADS> {
    /// Names the hash and the channel. The hash tag is that of the registry's shard, so that a fault hits both arms.
    fn key(service: &ServiceName) -> String {
        format!("{{registry/15}}:{service}:{}", if REREADS { "reread" } else { "published" })
    }

    async fn set(&self, service: &ServiceName, id: &InstanceId, record: &[u8]) -> Result<()> {
        let (mut pipe, key) = (redis::pipe(), Self::key(service));
        match record {
            [] => pipe.cmd("HDEL").arg(&key).arg(id.as_str()).ignore(),
            _ => pipe.cmd("HSET").arg(&key).arg(id.as_str()).arg(record).ignore(),
        };
        let message = [id.as_str().as_bytes(), b" ", record].concat();
        self.0.pipe(pipe.cmd("PUBLISH").arg(&key).arg(message).ignore()).await
    }
}

impl<const REREADS: bool> Arm for Publish<REREADS> {
    type Lease = (ServiceName, InstanceId);
    type Cursor = ();
    type Watch = Subscription;
    type Loaded = Vec<Record>;

    const RECOVERY: Recovery = if REREADS { Recovery::Reread } else { Recovery::Subscribe };

    async fn register(&self, request: &Request) -> Result<Self::Lease> {
        let (service, id) = (request.instance.service(), request.instance.id());
        self.set(service, id, &request.record()?).await?;
        Ok((service.clone(), id.clone()))
    }

    async fn keep_alive(&self, _: &Self::Lease) -> Result<()> {
        Ok(())
    }

    async fn deregister(&self, (service, id): Self::Lease) -> Result<()> {
        self.set(&service, &id, b"").await
    }

    async fn load(&self, service: &ServiceName) -> Result<Vec<Record>> {
        let all = redis::cmd("HGETALL").arg(Self::key(service)).to_owned();
        let all: HashMap<String, Vec<u8>> = self.0.run(&all).await?;
        all.iter().map(|(id, record)| decoded(service, &InstanceId::new(id)?, record)).collect()
    }

    async fn cursor(&self, _: &ServiceName) -> Result<()> {
        Ok(())
    }

    async fn watch(&self, service: &ServiceName, (): &()) -> Result<Subscription> {
        let mut pubsub = self.0.client().await?.get_async_pubsub().await?;
        pubsub.subscribe(Self::key(service)).await?;
        Ok(Subscription { service: service.clone(), messages: pubsub.into_on_message().boxed() })
    }

    async fn next(&self, watch: &mut Subscription) -> Result<Vec<Change>> {
        let message = watch.messages.next().await.context("the channel ended")?;
        let bytes = message.get_payload_bytes();
        let end = bytes.iter().position(|byte| *byte == b' ').context("a malformed message")?;
        let (id, record) = (InstanceId::new(str::from_utf8(&bytes[..end])?)?, &bytes[end + 1..]);
        Ok(vec![match record {
            [] => Change::Delete(Deleted::new(id)),
            _ => Change::Put(decoded(&watch.service, &id, record)?),
        }])
    }

    fn position(&self, _: &Subscription) {}
}
