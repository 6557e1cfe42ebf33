//! A key under a lease for each instance, and etcd's own watch.

use super::{Change, Diary, Picture, Place, Seen, Stage, Writer, for_ever, parse, way_to};
use anyhow::{Context, Result};
use async_trait::async_trait;
use etcd_client::{Client, EventType, GetOptions, PutOptions, WatchOptions};
use registry_testbed::servers::Etcd;
use std::cell::Cell;

struct Putter {
    etcd: Client,
    place: String,
    load: String,
    lease: i64,
}

struct Watcher {
    endpoint: String,
    place: String,
    diary: Diary,
    /// Up to where it has seen everything.
    revision: Cell<Option<i64>>,
}

pub(super) async fn open(etcd: &Etcd, place: Place<'_>) -> Result<Stage> {
    let Place { name, load, ttl, .. } = place;
    let endpoint = etcd.endpoint();
    let address = endpoint.strip_prefix("http://").context("an endpoint of another scheme")?;
    let (address, way) = way_to(address, place).await?;
    let writer = Client::connect([&endpoint], None).await?;
    let ttl = i64::try_from(ttl.as_secs())?;
    let lease = writer.lease_client().grant(ttl, None).await?.id();
    let (place, diary) = (format!("{name}-plain/"), Diary::default());
    let watcher = Watcher {
        endpoint: format!("http://{address}"),
        place: place.clone(),
        diary: diary.clone(),
        revision: Cell::default(),
    };
    Ok(Stage {
        writer: Box::new(Putter { etcd: writer, place, load: "x".repeat(load), lease }),
        observer: Box::pin(async move { for_ever(async || watcher.follow().await).await }),
        diary,
        way,
    })
}

#[async_trait(?Send)]
impl Writer for Putter {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let key = format!("{}{id}", self.place);
        match value {
            Some(value) => {
                let under = PutOptions::new().with_lease(self.lease);
                let text = format!("{value} {}", self.load);
                self.etcd.put(key, text, Some(under)).await?;
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
        let mut watch = etcd.watch_client().watch(&*self.place, Some(after)).await?;
        while let Some(answer) = watch.message().await? {
            if answer.compact_revision() > 0 {
                self.revision.set(None); // it is told that what it wants is gone
                return Ok(());
            }
            for event in answer.events() {
                let kv = event.kv().context("an event without a key")?;
                let value = match event.event_type() {
                    EventType::Put => parse(kv.value_str()?),
                    EventType::Delete => None,
                };
                self.diary.note(Seen::Change(Change { id: self.id(kv.key_str()?)?, value }));
                self.revision.set(Some(kv.mod_revision()));
            }
        }
        Ok(())
    }

    async fn read_all(&self, etcd: &Client) -> Result<i64> {
        let whole = GetOptions::new().with_prefix();
        let found = etcd.kv_client().get(&*self.place, Some(whole)).await?;
        let mut picture = Picture::new();
        for kv in found.kvs() {
            let id = self.id(kv.key_str()?)?;
            picture.extend(parse(kv.value_str()?).map(|value| (id, value)));
        }
        self.diary.note_all(picture, Seen::Resynced);
        let revision = found.header().context("an answer without a header")?.revision();
        self.revision.set(Some(revision));
        Ok(revision)
    }

    fn id(&self, key: &str) -> Result<u8> {
        Ok(key.strip_prefix(&self.place).context("a key of another place")?.parse()?)
    }
}
