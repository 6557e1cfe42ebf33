//! A key with a ttl for each instance, and Redis' own notifications of what happens to keys.

use super::connection::{RedisConnection, RedisTarget};
use super::{
    ArmOptions, Change, Event, EventLog, OpenArm, RedisTargets, Values, Writer, parse_value,
    retry_forever,
};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;

/// The server's setting for notifications of all events of keys.
pub(crate) const NOTIFY: [&str; 2] = ["notify-keyspace-events", "KEA"];

/// The ttl of other keys in milliseconds: longer than any run.
const OTHERS_TTL: u32 = 3_600_000;

struct Setter {
    redis: RedisConnection,
    prefix: String,
    payload: String,
    ttl: u64,
}

struct Listener {
    target: RedisTarget,
    prefix: String,
    log: EventLog,
}

pub(super) async fn open(ways: RedisTargets, options: ArmOptions<'_>) -> Result<OpenArm> {
    let ArmOptions { name, payload_len, ttl, .. } = options;
    let (prefix, ttl) = (format!("{name}:keys"), u64::try_from(ttl.as_millis())?);
    let RedisTargets { writer, observer, link } = ways;
    let mut writer = RedisConnection::new(writer);
    let mut notify = redis::pipe();
    notify.cmd("CONFIG").arg("SET").arg(NOTIFY[0]).arg(NOTIFY[1]).ignore();
    writer.run(&notify).await?;
    let log = EventLog::default();
    let listener = Listener { target: observer, prefix: prefix.clone(), log: log.clone() };
    Ok(OpenArm {
        writer: Box::new(Setter { redis: writer, prefix, payload: "x".repeat(payload_len), ttl }),
        observer: Box::pin(async move { retry_forever(async || listener.follow().await).await }),
        log,
        link,
    })
}

#[async_trait(?Send)]
impl Writer for Setter {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let key = format!("{}:{id}", self.prefix);
        let mut pipe = redis::pipe();
        match value {
            Some(value) => {
                let text = format!("{value} {}", self.payload);
                pipe.cmd("SET").arg(key).arg(text).arg("PX").arg(self.ttl).ignore();
            }
            None => drop(pipe.cmd("DEL").arg(key).ignore()),
        }
        self.redis.run(&pipe).await
    }

    async fn register_others(&mut self, others: usize) -> Result<()> {
        let others: Vec<usize> = (0..others).collect();
        for chunk in others.chunks(1_000) {
            let mut pipe = redis::pipe();
            for other in chunk {
                let key = format!("{}-other:{other}", self.prefix);
                pipe.cmd("SET").arg(key).arg("1").arg("PX").arg(OTHERS_TTL).ignore();
            }
            self.redis.run(&pipe).await?;
        }
        Ok(())
    }
}

impl Listener {
    async fn follow(&self) -> Result<()> {
        let client = self.target.client().await?;
        let mut channel = client.get_async_pubsub().await?;
        channel.psubscribe(format!("__keyspace@0__:{}:*", self.prefix)).await?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        let mut values = Values::new();
        for id in 0..=u8::MAX {
            if let Some(value) = self.read(&mut redis, id).await? {
                values.insert(id, value);
            }
        }
        self.log.record_all(values, Event::Reread);
        let mut messages = channel.on_message();
        while let Some(message) = messages.next().await {
            let (_, id) = message.get_channel_name().rsplit_once(':').context("no key")?;
            let (id, event): (u8, String) = (id.parse()?, message.get_payload()?);
            // A notification names the event, without the value.
            let value = match event.as_str() {
                "set" => self.read(&mut redis, id).await?,
                "del" | "expired" => None,
                _ => continue,
            };
            self.log.record(Event::Change(Change { id, value }));
        }
        Ok(())
    }

    async fn read(&self, redis: &mut MultiplexedConnection, id: u8) -> Result<Option<u32>> {
        let read = redis::cmd("GET").arg(format!("{}:{id}", self.prefix)).to_owned();
        let text: Option<String> = read.query_async(redis).await?;
        Ok(text.as_deref().and_then(parse_value))
    }
}
