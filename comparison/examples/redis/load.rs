//! A service of 100,000 instances: loaded, held by the server, renewed.

use crate::server::Server;
use anyhow::{Result, ensure};
use async_trait::async_trait;
use comparison::figures::{Figure, Report};
use comparison::paired::{self, Plan};
use comparison::sections::one_thread;
use comparison::workloads::{RequestGenerator, Runner, Timed, Workload};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use redis::Script;
use redis::aio::MultiplexedConnection;
use registry_core::{CallOptions, Lease, Registry, ServiceName};
use registry_redis::RedisRegistry;
use std::hint::black_box;
use std::time::Duration;
use tokio::time::Instant;

/// What the registry reads at once.
const PAGE: usize = 1000;

pub(crate) fn report(quick: bool) -> Result<Report> {
    let (many, rounds) = if quick { (5_000, 3) } else { (100_000, 9) };
    let plan = Plan { rounds, round: Duration::ZERO, turns: 1, batch: 1 };
    one_thread()?.block_on(async {
        let server = Server::start().await?;
        let registry = server.registry().await?;
        let mut report = Report::default();
        let before = server.counts().await?.memory()?;
        let (service, leases) = fill(&registry, many).await?;
        let held = server.counts().await?.memory()? - before;

        let shard = shard_of(&service);
        let raw = async || {
            let (connection, service) = (server.connection().await?, service.clone());
            anyhow::Ok(Box::new(Raw { connection, service, shard, many }))
        };
        let ours = Ours { registry: registry.clone(), service: service.clone(), many };
        let mut ours = Runner::new("ours", Box::new(ours));
        let mut first = Runner::new("raw", raw().await?);
        let mut again = Runner::new("raw, again", raw().await?);
        let figures = paired::compare(&mut ours, &mut first, &mut again, plan).await?;
        report.add(Figure::timed(format!("{many} loaded: ours"), figures.first * 1e3, "ms"));
        report.add(Figure::timed(format!("{many} loaded: raw"), figures.second * 1e3, "ms"));
        let ratio = Figure::spread(format!("{many} loaded: ours / raw"), figures.ratio, "x");
        report.add(ratio.at_most(1.25).aim(1.05));
        report.add(Figure::spread(format!("{many} loaded: A/A: raw / raw"), figures.floor, "x"));
        if !figures.is_sound() {
            report.note("loaded: void, A/A left 0.98..1.02; repeat it when the machine is quieter");
        }
        let each = held / f64::from(u32::try_from(many)?);
        report.add(Figure::timed("the server's memory, an instance", each, "B"));

        let (mut together, mut singly) = (Vec::new(), Vec::new());
        let hundred = &leases[..100];
        registry.keep_alive(&hundred[0], &CallOptions::DEFAULT).await?; // now the server knows the script
        for _ in 0..rounds {
            let before = server.counts().await?.scripts()?;
            let start = Instant::now();
            for outcome in join_all(hundred.iter().map(|lease| registry.keep_alive(lease, &CallOptions::DEFAULT))).await {
                outcome?;
            }
            together.push(start.elapsed().as_secs_f64() * 1e3);
            let scripts = server.counts().await?.scripts()? - before;
            ensure!(scripts <= 2.0, "100 renewals at once were {scripts} calls");
            let start = Instant::now();
            for lease in hundred {
                registry.keep_alive(lease, &CallOptions::DEFAULT).await?;
            }
            singly.push(start.elapsed().as_secs_f64() * 1e3);
        }
        report.add(Figure::median("100 renewals at once", &together, "ms"));
        report.add(Figure::median("100 renewals, one by one", &singly, "ms"));
        report.note(&server.description);
        report.note("raw reads the same pages by the same commands, one after the other, and decodes nothing");
        report.note("memory: all of it, with the log of the shard");
        Ok(report)
    })
}

async fn fill(registry: &RedisRegistry, many: usize) -> Result<(ServiceName, Vec<Lease>)> {
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let requests = (0..many).map(|_| generator.request()).collect::<Result<Vec<_>>>()?;
    let registered = stream::iter(&requests).map(async |request| {
        registry.register(&request.instance, &request.claim, &CallOptions::DEFAULT).await
    });
    let leases = registered.buffer_unordered(64).try_collect().await?;
    Ok((generator.service().clone(), leases))
}

/// As the registry's documentation says where a service lies.
fn shard_of(service: &ServiceName) -> u64 {
    let hash = service.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash % 16
}

struct Ours {
    registry: RedisRegistry,
    service: ServiceName,
    many: usize,
}

#[async_trait(?Send)]
impl Timed for Ours {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..n {
            let snapshot =
                black_box(self.registry.load(&self.service, &CallOptions::DEFAULT).await?);
            ensure!(snapshot.instances().len() == self.many, "not all of it");
        }
        Ok(start.elapsed())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Raw {
    connection: MultiplexedConnection,
    service: ServiceName,
    shard: u64,
    many: usize,
}

#[async_trait(?Send)]
impl Timed for Raw {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let page = Script::new(
            "local start = ARGV[3] == '' and '[' .. ARGV[1] .. '\\31' or '(' .. ARGV[3]
            local members = redis.call('ZRANGEBYLEX', KEYS[2], start,
              '(' .. ARGV[1] .. '\\32', 'LIMIT', 0, tonumber(ARGV[2]))
            if not members[1] then return { members, {} } end
            return { members, redis.call('HMGET', KEYS[1], unpack(members)) }",
        );
        let keys = ["inst", "idx"].map(|key| format!("{{figures-ours/{:02}}}:{key}", self.shard));
        let start = Instant::now();
        for _ in 0..n {
            let (mut read, mut last) = (0, Vec::new());
            loop {
                let mut call = page.key(&keys[..]);
                call.arg(self.service.as_str()).arg(PAGE).arg(&last);
                let (mut members, values): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
                    call.invoke_async(&mut self.connection).await?;
                read += black_box(values).len();
                match members.pop() {
                    Some(member) if members.len() + 1 == PAGE => last = member,
                    _ => break,
                }
            }
            ensure!(read == self.many, "not all of it");
        }
        Ok(start.elapsed())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
