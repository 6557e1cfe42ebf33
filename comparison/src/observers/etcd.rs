//! A key lease a lease for each instance, and etcd's own watch.

use super::{
    ArmOptions, Change, Event, EventLog, OpenArm, Values, Writer, link_to, parse_value,
    retry_forever,
};
use anyhow::{Context, Result};
use async_trait::async_trait;
use etcd_client::{Client, EventType, GetOptions, PutOptions, WatchOptions};
use registry_testbed::servers::Etcd;
use std::cell::Cell;

struct Putter {
    etcd: Client,
    prefix: String,
    payload: String,
    lease: i64,
}

struct Watcher {
    endpoint: String,
    prefix: String,
    log: EventLog,
    /// The last revision of which every event was seen.
    revision: Cell<Option<i64>>,
}

pub(super) async fn open(etcd: &Etcd, options: ArmOptions<'_>) -> Result<OpenArm> {
    let ArmOptions { name, payload_len, ttl, .. } = options;
    let endpoint = etcd.endpoint();
    let address = endpoint.strip_prefix("http://").context("an endpoint of another scheme")?;
    let (address, link) = link_to(address, options).await?;
    let writer = Client::connect([&endpoint], None).await?;
    let ttl = i64::try_from(ttl.as_secs())?;
    let lease = writer.lease_client().grant(ttl, None).await?.id();
    let (prefix, log) = (format!("{name}-plain/"), EventLog::default());
    let watcher = Watcher {
        endpoint: format!("http://{address}"),
        prefix: prefix.clone(),
        log: log.clone(),
        revision: Cell::default(),
    };
    Ok(OpenArm {
        writer: Box::new(Putter { etcd: writer, prefix, payload: "x".repeat(payload_len), lease }),
        observer: Box::pin(async move { retry_forever(async || watcher.follow().await).await }),
        log,
        link,
    })
}

#[async_trait(?Send)]
impl Writer for Putter {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let key = format!("{}{id}", self.prefix);
        match value {
            Some(value) => {
                let options = PutOptions::new().with_lease(self.lease);
                let text = format!("{value} {}", self.payload);
                self.etcd.put(key, text, Some(options)).await?;
            }
            None => drop(self.etcd.delete(key, None).await?),
        }
        Ok(())
    }
}

impl Watcher {
    async fn follow(&self) -> Result<()> {
        let etcd = Client::connect([&self.endpoint], None).await?;
        let from = match self.revision.get() {
            Some(revision) => revision,
            None => self.read_all(&etcd).await?,
        };
        let after = WatchOptions::new().with_prefix().with_start_revision(from + 1);
        let mut watch = etcd.watch_client().watch(&*self.prefix, Some(after)).await?;
        while let Some(response) = watch.message().await? {
            if response.compact_revision() > 0 {
                self.revision.set(None); // the history it needs is compacted
                return Ok(());
            }
            for event in response.events() {
                let kv = event.kv().context("an event without a key")?;
                let value = match event.event_type() {
                    EventType::Put => parse_value(kv.value_str()?),
                    EventType::Delete => None,
                };
                self.log.record(Event::Change(Change { id: self.id(kv.key_str()?)?, value }));
                self.revision.set(Some(kv.mod_revision()));
            }
        }
        Ok(())
    }

    async fn read_all(&self, etcd: &Client) -> Result<i64> {
        let range = GetOptions::new().with_prefix();
        let found = etcd.kv_client().get(&*self.prefix, Some(range)).await?;
        let mut values = Values::new();
        for kv in found.kvs() {
            let id = self.id(kv.key_str()?)?;
            values.extend(parse_value(kv.value_str()?).map(|value| (id, value)));
        }
        self.log.record_all(values, Event::Resynced);
        let revision = found.header().context("a response without a header")?.revision();
        self.revision.set(Some(revision));
        Ok(revision)
    }

    fn id(&self, key: &str) -> Result<u8> {
        Ok(key.strip_prefix(&self.prefix).context("a key outside the prefix")?.parse()?)
    }
}
