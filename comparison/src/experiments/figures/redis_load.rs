//! A service of 100,000 instances on Redis: loaded, held by the server, renewed.

use crate::arms::{Arm, Ours};
use crate::harness::redis_server::OURS;
use crate::harness::{Figure, Figures, Plan, RedisServer, compare};
use crate::workloads::{Repeated, RequestGenerator, Runner, Workload};
use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use redis::Script;
use redis::aio::MultiplexedConnection;
use registry_core::ServiceName;
use std::hint::black_box;
use std::time::Duration;
use tokio::time::Instant;

/// What the registry reads at once.
const PAGE: usize = 1000;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let (many, rounds) = if quick { (5_000, 3) } else { (100_000, 9) };
    let plan = Plan { rounds, round: Duration::ZERO, turns: 1, batch: 1 };
    let server = RedisServer::start().await?;
    let arm = Ours::new(server.registry().await?);
    let mut figures = Figures::default();
    let before = server.counts().await?.memory()?;
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let leases = generator.register(&arm, many).await?;
    let held = server.counts().await?.memory()? - before;

    let service = generator.service;
    let raw = async || {
        let (connection, service) = (server.connection().await?, service.clone());
        let read = async move || read_pages(connection.clone(), &service, many).await;
        anyhow::Ok(Runner::new("raw", Repeated(read)))
    };
    let (ours, of) = (arm.clone(), service.clone());
    let load = async move || {
        let loaded = ours.load(&of).await?;
        ensure!(loaded.len() == many, "not all of it");
        Ok(black_box(loaded))
    };
    let runners = [Runner::new("ours", Repeated(load)), raw().await?, raw().await?];
    let compared = compare(runners, plan).await?;
    let target = |figure: Figure| figure.at_most(1.25).aim(1.05);
    let name = format!("{many} loaded");
    figures.add_comparison([&name, "ours", "raw"], &compared, ("ms", 1e3), target);
    let each = held / f64::from(u32::try_from(many)?);
    figures.add(Figure::timed("the server's memory, an instance", each, "B"));

    let (mut together, mut singly) = (Vec::new(), Vec::new());
    let hundred = &leases[..100];
    arm.keep_alive(&hundred[0]).await?; // now the server knows the script
    for _ in 0..rounds {
        let before = server.counts().await?.scripts()?;
        let start = Instant::now();
        try_join_all(hundred.iter().map(|lease| arm.keep_alive(lease))).await?;
        together.push(start.elapsed().as_secs_f64() * 1e3);
        let scripts = server.counts().await?.scripts()? - before;
        ensure!(scripts <= 2.0, "100 renewals at once were {scripts} calls");
        let start = Instant::now();
        for lease in hundred {
            arm.keep_alive(lease).await?;
        }
        singly.push(start.elapsed().as_secs_f64() * 1e3);
    }
    figures.add(Figure::median("100 renewals at once", &together, "ms"));
    figures.add(Figure::median("100 renewals, one by one", &singly, "ms"));
    figures.note(&server.description);
    figures.note(
        "raw reads the same pages by the same commands, one after the other, and decodes nothing",
    );
    figures.note("memory: all of it, with the log of the shard");
    Ok(figures)
}

async fn read_pages(
    mut connection: MultiplexedConnection,
    service: &ServiceName,
    many: usize,
) -> Result<()> {
    let page = Script::new(
        "local start = ARGV[3] == '' and '[' .. ARGV[1] .. '\\31' or '(' .. ARGV[3]
        local members = redis.call('ZRANGEBYLEX', KEYS[2], start,
          '(' .. ARGV[1] .. '\\32', 'LIMIT', 0, tonumber(ARGV[2]))
        if not members[1] then return { members, {} } end
        return { members, redis.call('HMGET', KEYS[1], unpack(members)) }",
    );
    let shard = shard_of(service);
    let keys = ["inst", "idx"].map(|key| format!("{{{OURS}/{shard:02}}}:{key}"));
    let (mut read, mut last) = (0, Vec::new());
    loop {
        let mut call = page.key(&keys[..]);
        call.arg(service.as_str()).arg(PAGE).arg(&last);
        let (mut members, values): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
            call.invoke_async(&mut connection).await?;
        read += black_box(values).len();
        match members.pop() {
            Some(member) if members.len() + 1 == PAGE => last = member,
            _ => break,
        }
    }
    ensure!(read == many, "not all of it");
    Ok(())
}

/// As the registry's documentation says where a service lies.
fn shard_of(service: &ServiceName) -> u64 {
    let hash = service.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash % 16
}
