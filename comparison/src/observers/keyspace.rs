//! A key with a ttl for each instance, and Redis' own notifications of what happens to keys.

use super::reach::{Line, Reach};
use super::{Change, Diary, Picture, Place, Seen, Stage, Ways, Writer, for_ever, parse};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;

/// The setting of a server that tells of all that happens to keys.
pub(crate) const NOTIFY: [&str; 2] = ["notify-keyspace-events", "KEA"];

/// How long others stay, in milliseconds: longer than any run.
const LONG: u32 = 3_600_000;

struct Setter {
    redis: Line,
    place: String,
    load: String,
    ttl: u64,
}

struct Listener {
    reach: Reach,
    place: String,
    diary: Diary,
}

pub(super) async fn open(ways: Ways, place: Place<'_>) -> Result<Stage> {
    let Place { name, load, ttl, .. } = place;
    let (place, ttl) = (format!("{name}:keys"), u64::try_from(ttl.as_millis())?);
    let Ways { writer, observer, way } = ways;
    let mut writer = Line::new(writer);
    let mut notify = redis::pipe();
    notify.cmd("CONFIG").arg("SET").arg(NOTIFY[0]).arg(NOTIFY[1]).ignore();
    writer.run(&notify).await?;
    let diary = Diary::default();
    let listener = Listener { reach: observer, place: place.clone(), diary: diary.clone() };
    Ok(Stage {
        writer: Box::new(Setter { redis: writer, place, load: "x".repeat(load), ttl }),
        observer: Box::pin(async move { for_ever(async || listener.follow().await).await }),
        diary,
        way,
    })
}

#[async_trait(?Send)]
impl Writer for Setter {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let key = format!("{}:{id}", self.place);
        let mut pipe = redis::pipe();
        match value {
            Some(value) => {
                let text = format!("{value} {}", self.load);
                pipe.cmd("SET").arg(key).arg(text).arg("PX").arg(self.ttl).ignore();
            }
            None => drop(pipe.cmd("DEL").arg(key).ignore()),
        }
        self.redis.run(&pipe).await
    }

    async fn crowd(&mut self, others: usize) -> Result<()> {
        let others: Vec<usize> = (0..others).collect();
        for some in others.chunks(1_000) {
            let mut pipe = redis::pipe();
            for other in some {
                let key = format!("{}-other:{other}", self.place);
                pipe.cmd("SET").arg(key).arg("1").arg("PX").arg(LONG).ignore();
            }
            self.redis.run(&pipe).await?;
        }
        Ok(())
    }
}

impl Listener {
    async fn follow(&self) -> Result<()> {
        let client = self.reach.client().await?;
        let mut channel = client.get_async_pubsub().await?;
        channel.psubscribe(format!("__keyspace@0__:{}:*", self.place)).await?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        let mut picture = Picture::new();
        for id in 0..=u8::MAX {
            if let Some(value) = self.read(&mut redis, id).await? {
                picture.insert(id, value);
            }
        }
        self.diary.note_all(picture, Seen::Reread);
        let mut messages = channel.on_message();
        while let Some(message) = messages.next().await {
            let (_, id) = message.get_channel_name().rsplit_once(':').context("no key")?;
            let (id, what): (u8, String) = (id.parse()?, message.get_payload()?);
            // A notification says what was done, and not to what value.
            let value = match what.as_str() {
                "set" => self.read(&mut redis, id).await?,
                "del" | "expired" => None,
                _ => continue,
            };
            self.diary.note(Seen::Change(Change { id, value }));
        }
        Ok(())
    }

    async fn read(&self, redis: &mut MultiplexedConnection, id: u8) -> Result<Option<u32>> {
        let read = redis::cmd("GET").arg(format!("{}:{id}", self.place)).to_owned();
        let text: Option<String> = read.query_async(redis).await?;
        Ok(text.as_deref().and_then(parse))
    }
}
