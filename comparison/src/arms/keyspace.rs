//! A key with a ttl for each instance, and Redis' keyspace notifications.

use super::publish::Subscription;
use super::{Arm, Recovery, Request, decoded};
use crate::harness::RedisLink;
use anyhow::{Context, Result};
use futures_util::StreamExt;
use registry_core::{Change, Deleted, InstanceId, Record, ServiceName};

/// A registration is a `SET PX`. A notification does not carry the value, and a disconnected client misses it. So a
/// client reads the key after a notification, and all keys after each connect.
#[derive(Clone)]
pub struct Keyspace(pub RedisLink);

impl Keyspace {
    fn key(service: &ServiceName, id: &str) -> String {
        format!("{{registry/15}}:{service}:keys:{id}")
    }

    async fn read(&self, service: &ServiceName, id: &InstanceId) -> Result<Option<Record>> {
        let read = redis::cmd("GET").arg(Self::key(service, id.as_str())).to_owned();
        let record: Option<Vec<u8>> = self.0.run(&read).await?;
        record.map(|record| decoded(service, id, &record)).transpose()
    }
}

impl Arm for Keyspace {
    type Lease = Request;
    type Cursor = ();
    type Watch = Subscription;
    type Loaded = Vec<Record>;

    const RECOVERY: Recovery = Recovery::Reread;

    async fn register(&self, request: &Request) -> Result<Request> {
        let key = Self::key(request.instance.service(), request.instance.id().as_str());
        let mut set = redis::cmd("SET");
        set.arg(key).arg(request.record()?).arg("PX").arg(request.ttl_millis()?);
        self.0.run::<()>(&set).await?;
        Ok(request.clone())
    }

    async fn keep_alive(&self, lease: &Request) -> Result<()> {
        self.register(lease).await.map(drop)
    }

    async fn deregister(&self, lease: Request) -> Result<()> {
        let key = Self::key(lease.instance.service(), lease.instance.id().as_str());
        self.0.run(redis::cmd("DEL").arg(key)).await
    }

    async fn load(&self, service: &ServiceName) -> Result<Vec<Record>> {
        let prefix = Self::key(service, "");
        let keys: Vec<String> = self.0.run(redis::cmd("KEYS").arg(format!("{prefix}*"))).await?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let records: Vec<Option<Vec<u8>>> = self.0.run(redis::cmd("MGET").arg(&keys)).await?;
        let found = keys.iter().zip(records).filter_map(|(key, record)| Some((key, record?)));
        let decode = |(key, record): (&String, Vec<u8>)| {
            let id = key.strip_prefix(&prefix).context("a key of another service")?;
            decoded(service, &InstanceId::new(id)?, &record)
        };
        found.map(decode).collect()
    }

    async fn cursor(&self, _: &ServiceName) -> Result<()> {
        Ok(())
    }

    /// Opens a subscription, and also enables the notifications on the server.
    async fn watch(&self, service: &ServiceName, (): &()) -> Result<Subscription> {
        let mut notify = redis::cmd("CONFIG");
        self.0.run::<()>(notify.arg("SET").arg("notify-keyspace-events").arg("KEA")).await?;
        let mut pubsub = self.0.client().await?.get_async_pubsub().await?;
        pubsub.psubscribe(format!("__keyspace@0__:{}", Self::key(service, "*"))).await?;
        Ok(Subscription { service: service.clone(), messages: pubsub.into_on_message().boxed() })
    }

    async fn next(&self, watch: &mut Subscription) -> Result<Vec<Change>> {
        let message = watch.messages.next().await.context("the notifications ended")?;
        let (_, id) =
            message.get_channel_name().rsplit_once(':').context("no key in the channel")?;
        let (id, event): (_, String) = (InstanceId::new(id)?, message.get_payload()?);
        let record = match event.as_str() {
            "set" => self.read(&watch.service, &id).await?,
            "del" | "expired" => None,
            _ => return Ok(Vec::new()),
        };
        let deleted = || Change::Delete(Deleted::new(id));
        Ok(vec![record.map_or_else(deleted, Change::Put)])
    }

    fn position(&self, _: &Subscription) {}
}
