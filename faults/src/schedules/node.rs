//! One of several servers is silent for longer than the silence timeout, but not long enough for a failover.

use crate::neighbours::key_of;
use crate::operator::redis_at;
use crate::servers::{KEY, Servers};
use crate::stage::{Evidence, Stage};
use crate::tap::Tap;
use anyhow::{Result, bail, ensure};
use registry_testbed::proxy::Fault;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How a server is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Its process is paused.
    Pause,
    /// The links of clients to it are silent. Links between servers work.
    Link,
}

pub(super) async fn run(stage: &mut Stage, by: Silence) -> Result<Evidence> {
    match &stage.servers {
        Servers::Cluster(_) => primary(stage, by).await,
        Servers::EtcdThree(_) => member(stage, by).await,
        _ => bail!("these servers are not replicated"),
    }
}

/// Silences the primary of the service. Views of services on other primaries must not notice.
async fn primary(stage: &mut Stage, by: Silence) -> Result<Evidence> {
    /// The time until a failover. During a failover the other nodes would serve no clients either.
    const NODE_TIMEOUT_MS: u32 = 60_000;
    let length = length(stage);
    let Servers::Cluster(nodes) = &mut stage.servers else { bail!("these servers have no nodes") };
    for node in 0..nodes.nodes() {
        let mut redis = redis_at(&nodes.address(node)).await?;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("cluster-node-timeout").arg(NODE_TIMEOUT_MS);
        set.query_async::<()>(&mut redis).await?;
    }
    let silent = nodes.owner(KEY).await?;
    let mut spared = Vec::new();
    for neighbour in &stage.neighbours {
        if nodes.owner(&key_of(&neighbour.service)).await? != silent {
            spared.push(neighbour.tap.clone());
        }
    }
    let (on_others, all) = (spared.len(), stage.neighbours.len());
    ensure!(on_others > 0 && on_others < all, "all services are on the silent primary, or none is");
    let began = Instant::now();
    let address = match by {
        Silence::Pause => {
            nodes.process(silent).pause()?;
            nodes.address(silent)
        }
        Silence::Link => {
            nodes.cut_off_clients(silent);
            nodes.announced_address(silent)
        }
    };
    ensure_silent(&address, "PING\r\n").await?;
    sleep_until(began + length).await;
    match by {
        Silence::Pause => nodes.process(silent).resume()?,
        Silence::Link => nodes.heal(),
    }
    let healed = Instant::now();
    let owner = nodes.owner(KEY).await?;
    ensure!(owner == silent, "no effect: node {owner} took over");
    let proof = format!(
        "node {silent} was silent by {by:?} for {length:?}, {on_others} of {all} neighbours were on other primaries"
    );
    let evidence = Evidence::of_outage(began, healed, stage.ttl, proof);
    Ok(Evidence { spared, ..evidence })
}

/// Silences a follower. Each view started on its own member, and the views on other members must not notice.
async fn member(stage: &mut Stage, by: Silence) -> Result<Evidence> {
    const HEALTH: &str = "GET /health HTTP/1.0\r\n\r\n";
    let (length, Some(silent)) = (length(stage), stage.silent_member) else {
        bail!("no member was selected")
    };
    let others = |(member, tap): (usize, &Arc<Tap>)| (member != silent).then(|| tap.clone());
    let spared = stage.taps.iter().enumerate().filter_map(others).collect();
    let Servers::EtcdThree(members) = &mut stage.servers else {
        bail!("these servers have no members")
    };
    let links: Vec<_> = stage.member_links.iter().map(|link| &link.0[silent]).collect();
    let moved = stage.taps.iter().filter(|tap| tap.was_stale()).count();
    ensure!(moved == 0, "no effect: {moved} views may have moved to other members");
    let began = Instant::now();
    match by {
        Silence::Pause => {
            members.process(silent).pause()?;
            ensure_silent(&members.endpoint(silent).replace("http://", ""), HEALTH).await?;
        }
        Silence::Link => {
            for proxy in &links {
                proxy.inject(Fault::Blackhole);
            }
            // Checks over the link of another view, because bytes on the link of the view on that member are counted.
            let other = &links[(silent + 1) % links.len()];
            ensure_silent(&other.address().to_string(), HEALTH).await?;
        }
    }
    sleep_until(began + length).await;
    let held = links[silent].hits().held_directions;
    match by {
        Silence::Pause => members.process(silent).resume()?,
        Silence::Link => {
            ensure!(held > 0, "no effect: no client sent anything over the silent link");
            for link in &stage.member_links {
                link.open();
            }
        }
    }
    let healed = Instant::now();
    members.rejoined(silent).await?;
    let proof =
        format!("member {silent} was silent by {by:?} for {length:?}, {held} directions held");
    let evidence = Evidence::of_outage(began, healed, stage.ttl, proof);
    Ok(Evidence { spared, ..evidence })
}

/// Returns how long the server is silent. In some runs the time is longer than the ttl, so leases expire.
fn length(stage: &mut Stage) -> Duration {
    /// The time in which clients notice the silence.
    const NOTICED: Duration = Duration::from_secs(1);
    stage.ttl.mul_f64(2.0 / 3.0 + stage.random.f64() * 4.0 / 3.0) + NOTICED
}

/// Checks that a server does not respond.
async fn ensure_silent(address: &str, request: &str) -> Result<()> {
    /// The time for bytes in flight to arrive.
    const SETTLED: Duration = Duration::from_millis(50);
    const ANSWERS_WITHIN: Duration = Duration::from_millis(300);
    sleep(SETTLED).await;
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read(&mut [0; 16]).await
    };
    let answer = timeout(ANSWERS_WITHIN, answer).await;
    ensure!(answer.is_err(), "no effect: {address} responds: {answer:?}");
    Ok(())
}
