//! A hash with what there is, and a channel on which changes are published.

use super::reach::{Line, Reach};
use super::{Change, Diary, Picture, Place, Seen, Stage, Ways, Writer, for_ever, parse};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::StreamExt;
use std::collections::HashMap;

struct Publisher {
    redis: Line,
    place: String,
    load: String,
}

struct Subscriber {
    reach: Reach,
    place: String,
    rereads: bool,
    diary: Diary,
}

pub(super) fn open(ways: Ways, place: Place<'_>, rereads: bool) -> Stage {
    let Place { name, load, .. } = place; // nothing in a hash expires
    let place = format!("{name}:{}", if rereads { "reread" } else { "published" });
    let Ways { writer, observer, way } = ways;
    let diary = Diary::default();
    let subscriber =
        Subscriber { reach: observer, place: place.clone(), rereads, diary: diary.clone() };
    Stage {
        writer: Box::new(Publisher { redis: Line::new(writer), place, load: "x".repeat(load) }),
        observer: Box::pin(async move { for_ever(async || subscriber.follow().await).await }),
        diary,
        way,
    }
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
        self.redis.run(&pipe).await
    }
}

impl Subscriber {
    async fn follow(&self) -> Result<()> {
        let client = self.reach.client().await?;
        let mut channel = client.get_async_pubsub().await?;
        channel.subscribe(&self.place).await?;
        if self.rereads {
            let mut redis = client.get_multiplexed_async_connection().await?;
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
