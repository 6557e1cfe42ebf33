//! A hash with what there is, and a channel on which changes are published.

use super::{Change, Diary, Picture, Place, Seen, Stage, Way, Ways, Writer, for_ever, parse};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::StreamExt;
use redis::Client;
use redis::aio::MultiplexedConnection;
use registry_testkit::servers::Redis;
use std::collections::HashMap;

struct Publisher {
    redis: MultiplexedConnection,
    place: String,
    load: String,
}

struct Subscriber {
    client: Client,
    place: String,
    rereads: bool,
    diary: Diary,
}

pub(super) async fn open(redis: &Redis, place: Place<'_>, rereads: bool) -> Result<Stage> {
    let Place { name, load, .. } = place; // nothing in a hash expires
    let place = format!("{name}:{}", if rereads { "reread" } else { "published" });
    let Ways { writer, observer, proxy } = Ways::to(redis).await?;
    let diary = Diary::default();
    let subscriber =
        Subscriber { client: observer, place: place.clone(), rereads, diary: diary.clone() };
    Ok(Stage {
        writer: Box::new(Publisher { redis: writer, place, load: "x".repeat(load) }),
        observer: Box::pin(async move { for_ever(async || subscriber.follow().await).await }),
        diary,
        way: Way::Proxy(proxy),
    })
}

#[async_trait(?Send)]
impl Writer for Publisher {
    async fn write(&mut self, Change { id, value }: Change) -> Result<()> {
        let mut pipe = redis::pipe();
        let text = value.map_or_else(String::new, |value| format!("{value} {}", self.load));
        match value {
            Some(_) => pipe.cmd("HSET").arg(&self.place).arg(id).arg(&text).ignore(),
            None => pipe.cmd("HDEL").arg(&self.place).arg(id).ignore(),
        };
        pipe.cmd("PUBLISH").arg(&self.place).arg(format!("{id} {text}")).ignore();
        Ok(pipe.exec_async(&mut self.redis).await?)
    }
}

impl Subscriber {
    async fn follow(&self) -> Result<()> {
        let mut channel = self.client.get_async_pubsub().await?;
        channel.subscribe(&self.place).await?;
        if self.rereads {
            let mut redis = self.client.get_multiplexed_async_connection().await?;
            let all = redis::cmd("HGETALL").arg(&self.place).query_async(&mut redis).await;
            let all: HashMap<u8, String> = all?;
            let held = all.iter().filter_map(|(id, text)| Some((*id, parse(text)?)));
            self.diary.note_all(held.collect::<Picture>(), Seen::Reread);
        }
        let mut messages = channel.on_message();
        while let Some(message) = messages.next().await {
            let text: String = message.get_payload()?;
            let (id, value) = text.split_once(' ').context("a message of another form")?;
            self.diary.note(Seen::Change(Change { id: id.parse()?, value: parse(value) }));
        }
        Ok(())
    }
}
