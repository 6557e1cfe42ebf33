//! A hash with the values, and a channel on which changes are published.

use super::connection::{RedisConnection, RedisTarget};
use super::{
    ArmOptions, Change, Event, EventLog, OpenArm, RedisTargets, Values, Writer, parse_value,
    retry_forever,
};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::StreamExt;
use std::collections::HashMap;

struct Publisher {
    redis: RedisConnection,
    key: String,
    payload: String,
}

struct Subscriber {
    target: RedisTarget,
    key: String,
    rereads: bool,
    log: EventLog,
}

pub(super) fn open(ways: RedisTargets, options: ArmOptions<'_>, rereads: bool) -> OpenArm {
    let ArmOptions { name, payload_len, .. } = options; // nothing in a hash expires
    let key = format!("{name}:{}", if rereads { "reread" } else { "published" });
    let RedisTargets { writer, observer, link } = ways;
    let log = EventLog::default();
    let subscriber = Subscriber { target: observer, key: key.clone(), rereads, log: log.clone() };
    OpenArm {
        writer: Box::new(Publisher {
            redis: RedisConnection::new(writer),
            key,
            payload: "x".repeat(payload_len),
        }),
        observer: Box::pin(async move { retry_forever(async || subscriber.follow().await).await }),
        log,
        link,
    }
}

#[async_trait(?Send)]
impl Writer for Publisher {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let mut pipe = redis::pipe();
        let text = value.map_or_else(String::new, |value| format!("{value} {}", self.payload));
        match value {
            Some(_) => pipe.cmd("HSET").arg(&self.key).arg(id).arg(&text).ignore(),
            None => pipe.cmd("HDEL").arg(&self.key).arg(id).ignore(),
        };
        pipe.cmd("PUBLISH").arg(&self.key).arg(format!("{id} {text}")).ignore();
        self.redis.run(&pipe).await
    }
}

impl Subscriber {
    async fn follow(&self) -> Result<()> {
        let client = self.target.client().await?;
        let mut channel = client.get_async_pubsub().await?;
        channel.subscribe(&self.key).await?;
        if self.rereads {
            let mut redis = client.get_multiplexed_async_connection().await?;
            let all = redis::cmd("HGETALL").arg(&self.key).query_async(&mut redis).await;
            let all: HashMap<u8, String> = all?;
            let values = all.iter().filter_map(|(id, text)| Some((*id, parse_value(text)?)));
            self.log.record_all(values.collect::<Values>(), Event::Reread);
        }
        let mut messages = channel.on_message();
        while let Some(message) = messages.next().await {
            let text: String = message.get_payload()?;
            let (id, value) = text.split_once(' ').context("a malformed message")?;
            self.log.record(Event::Change(Change { id: id.parse()?, value: parse_value(value) }));
        }
        Ok(())
    }
}
