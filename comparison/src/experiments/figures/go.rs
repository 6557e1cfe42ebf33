//! Compares go-zero with this library on one etcd.

use super::OUR_ARM;
use crate::harness::fixture::view;
use crate::harness::go_program::{GoProgram, micros_since_1970};
use crate::harness::stores::connect;
use crate::harness::{EtcdServer, Figure, Figures, Latencies, as_f64, in_turns};
use anyhow::{Context, Result, bail};
use etcd_client::{Client, DeleteOptions, EventType, PutOptions, Txn, TxnOp, WatchOptions};
use futures_util::future::{try_join, try_join_all};
use registry_core::{Address, Instance, InstanceId, LeaseId, Registry};
use registry_engine::{Discovery, DiscoveryOptions, Registration, RegistrationOptions, View};
use registry_testbed::servers::free_port;
use registry_tonic::{Channel, ChannelOptions};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, interval, sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// The ttl of go-zero's leases.
const TTL: Duration = Duration::from_secs(10);

/// The timeout of one step.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let fleet = GoFleet {
        server: EtcdServer::start().await?,
        program: GoProgram::build().await?,
        folder: tempfile::tempdir()?,
    };
    let mut figures = Figures::default();
    fleet.measure_registration(&mut figures, if quick { 3 } else { 21 }).await?;
    fleet.measure_restoration(&mut figures, if quick { 1 } else { 7 }).await?;
    let many = if quick { 50 } else { 1_000 };
    for (services, instances) in [(1, 1), (1, many), (many, 1)] {
        let rounds = if quick { 5 } else { 201 };
        fleet.measure_visibility(&mut figures, services, instances, rounds).await?;
    }
    fleet.measure_calls(&mut figures, if quick { 200 } else { 6_000 }).await?;
    figures.note(&fleet.server.description);
    figures.note("register: from before the connect until the lease is granted and the key is put");
    figures.note("restore: from before the key is deleted until it is put again");
    figures.note("visible: from before a put until the list of endpoints has the address; both clients watch the same put");
    figures.note("a call: a health check of one of three go-zero servers; both callers make 200 a second at the same time");
    Ok(figures)
}

struct GoFleet {
    server: EtcdServer,
    program: PathBuf,
    folder: TempDir,
}

impl GoFleet {
    fn start(&self, role: &str, key: &str, services: usize) -> Result<GoProgram> {
        let file = self.folder.path().join(format!("{role}-{key}.yaml"));
        let (port, etcd) = (free_port(), &self.server.address);
        // Disables load shedding, with which go-zero's servers would reject calls on a busy machine.
        let listens = format!("ListenOn: 127.0.0.1:{port}\nCpuThreshold: 0\n");
        let listens = if matches!(role, "server" | "publisher") { &listens } else { "" };
        let log = "Log: {Mode: console, Level: severe, Stat: false}";
        let text = format!("Name: {key}\n{log}\n{listens}Etcd:\n  Hosts: [{etcd}]\n  Key: {key}\n");
        fs::write(&file, text)?;
        GoProgram::start(&self.program, role, &file, services)
    }

    async fn registry(&self) -> Result<Arc<dyn Registry>> {
        connect(&format!("etcd://{}?layout=go-zero", self.server.address)).await
    }

    /// Measures the time to connect and register.
    async fn measure_registration(&self, figures: &mut Figures, rounds: usize) -> Result<()> {
        let samples = in_turns(rounds, async |arm| {
            if arm == OUR_ARM {
                let start = Instant::now();
                let _ours = register_with_lease_id(self.registry().await?, "register-ours").await?;
                return Ok(start.elapsed().as_secs_f64() * 1e3);
            }
            let mut go = self.start("publisher", "register-go", 1)?;
            let start = go.event("registering", |_| true).await?.at;
            Ok(as_f64(go.event("serving", |_| true).await?.at - start) / 1e3)
        })
        .await?;
        figures.add_turns("register", ["go-zero", "ours", "go-zero"], &samples, "ms", |x| x);
        Ok(())
    }

    /// Measures the time until a deleted key is put again.
    async fn measure_restoration(&self, figures: &mut Figures, rounds: usize) -> Result<()> {
        let mut go = self.start("publisher", "restore-go", 1)?;
        go.event("serving", |_| true).await?;
        let _ours = register_with_lease_id(self.registry().await?, "restore-ours").await?;
        let mut operator = self.server.client().await?;
        let samples = in_turns(rounds, async |arm| {
            if arm == OUR_ARM {
                // A record that is deleted twice within a ttl is restored only after a backoff.
                sleep(TTL.mul_f64(1.2)).await;
            }
            let key = if arm == OUR_ARM { "restore-ours/" } else { "restore-go/" };
            timeout(DEADLINE, delete_and_wait(&mut operator, key)).await?
        })
        .await?;
        figures.add_turns("restore", ["go-zero", "ours", "go-zero"], &samples, "ms", |x| x);
        Ok(())
    }

    /// Measures the time until a put in one of the watched services is visible to go-zero and to this library.
    async fn measure_visibility(
        &self,
        figures: &mut Figures,
        services: usize,
        instances: usize,
        rounds: usize,
    ) -> Result<()> {
        let (mut operator, key) =
            (self.server.client().await?, format!("visible-{services}-{instances}"));
        let service = |n: usize| format!("{key}-{n}");
        for n in 0..services {
            put_instances(&mut operator, &service(n), instances).await?;
        }
        let mut go = self.start("subscriber", &key, services)?;
        let start = go.event("opening", |_| true).await?.at;
        let opened = go.event("open", |_| true).await?.at - start;
        let start = Instant::now();
        let discovery = Discovery::new(self.registry().await?, DiscoveryOptions::default());
        let names = (0..services).map(|n| Ok(discovery.view(&service(n).parse()?)));
        let mut views: Vec<View> = names.collect::<Result<_>>()?;
        try_join_all(views.iter_mut().map(|view| view.ready(DEADLINE))).await?;
        let name =
            |what: &str, arm: &str| format!("{services} x {instances} instances: {what}, {arm}");
        figures.add(Figure::timed(name("open", "go-zero"), as_f64(opened) / 1e3, "ms"));
        let ours = start.elapsed().as_secs_f64() * 1e3;
        figures.add(Figure::timed(name("open", "ours"), ours, "ms"));
        let mut samples = [Vec::new(), Vec::new()];
        // Round 0 warms up.
        for round in 0..=rounds {
            let n = round % services;
            let address = format!("10.9.{}.{}:8080", round / 250, round % 250);
            let start = micros_since_1970();
            let both = try_join(wait_for_address(&mut views[n], address.parse()?), async {
                operator.put(format!("{}/1", service(n)), address.clone(), None).await?;
                let is_listed = |list: &[String]| list.contains(&address);
                anyhow::Ok(go.event("endpoints", |event| is_listed(&event.list)).await?.at)
            });
            let (ours, theirs) = timeout(DEADLINE, both).await??;
            if round > 0 {
                samples[0].push(as_f64(theirs.saturating_sub(start)));
                samples[1].push(as_f64(ours.saturating_sub(start)));
            }
        }
        for (arm, samples) in ["go-zero", "ours"].into_iter().zip(samples) {
            add_percentiles(figures, |what| name(&format!("visible, {what}"), arm), samples)?;
        }
        Ok(())
    }

    /// Measures calls through both balancers to the same servers.
    async fn measure_calls(&self, figures: &mut Figures, calls: usize) -> Result<()> {
        const SERVERS: usize = 3;
        let mut servers = Vec::new();
        for _ in 0..SERVERS {
            servers.push(self.start("server", "call", 1)?);
        }
        let mut view = view(self.registry().await?, &"call".parse()?).await?;
        let listed = async {
            while view.state().available().count() < SERVERS {
                view.changed().await?;
            }
            anyhow::Ok(())
        };
        timeout(DEADLINE, listed).await??;
        let mut go = self.start("checker", "call", 1)?;
        let theirs = async {
            let mut took = Vec::with_capacity(calls);
            while took.len() < calls {
                let call = go.event("call", |_| true).await?;
                if !call.error.is_empty() {
                    bail!("a call by go-zero failed: {}", call.error);
                }
                took.push(as_f64(call.micros));
            }
            anyhow::Ok(took)
        };
        let client = HealthClient::new(Channel::new(view.clone(), ChannelOptions::default()));
        let (theirs, ours) = try_join(theirs, check(client, calls)).await?;
        // Skips the first tenth, whose calls open the connections.
        for (arm, took) in [("go-zero", theirs), ("ours", ours)] {
            let took = took.into_iter().skip(calls / 10).collect();
            add_percentiles(figures, |what| format!("a call, {what}, {arm}"), took)?;
        }
        Ok(())
    }
}

/// Registers an instance whose id is its lease id, as in go-zero's keys.
async fn register_with_lease_id(registry: Arc<dyn Registry>, key: &str) -> Result<Registration> {
    let lease = LeaseId::random();
    let id: InstanceId = lease.get().to_string().parse()?;
    let instance = Instance::from_parts(key.parse()?, id, "127.0.0.1:9".parse()?);
    let options = RegistrationOptions::default().with_ttl(TTL).with_lease(lease);
    Ok(Registration::start(registry, instance, options).await?)
}

/// Deletes the keys under a prefix, and returns the milliseconds until one is put again.
async fn delete_and_wait(operator: &mut Client, prefix: &str) -> Result<f64> {
    let mut events = operator.watch(prefix, Some(WatchOptions::new().with_prefix())).await?;
    let start = Instant::now();
    operator.delete(prefix, Some(DeleteOptions::new().with_prefix())).await?;
    loop {
        let response = events.message().await?.context("the watch ended")?;
        if response.events().iter().any(|event| event.event_type() == EventType::Put) {
            return Ok(start.elapsed().as_secs_f64() * 1e3);
        }
    }
}

/// Puts instances of a service under one lease.
async fn put_instances(operator: &mut Client, service: &str, instances: usize) -> Result<()> {
    let lease = operator.lease_grant(3600, None).await?.id();
    let operations: Vec<TxnOp> = (0..instances)
        .map(|n| {
            let options = PutOptions::new().with_lease(lease);
            let address = format!("10.8.{}.{}:8080", n / 250, n % 250);
            TxnOp::put(format!("{service}/{}", n + 2), address, Some(options))
        })
        .collect();
    for chunk in operations.chunks(100) {
        operator.txn(Txn::new().and_then(chunk)).await?;
    }
    Ok(())
}

/// Waits until a view lists an address, and returns the time.
async fn wait_for_address(view: &mut View, address: Address) -> Result<u64> {
    while !view.state().instances().any(|instance| *instance.address() == address) {
        view.changed().await?;
    }
    Ok(micros_since_1970())
}

/// Makes calls at the rate of go-zero's caller, and returns the microseconds that each call took.
async fn check(client: HealthClient<Channel>, calls: usize) -> Result<Vec<f64>> {
    let mut ticks = interval(Duration::from_millis(5));
    let mut tasks = Vec::with_capacity(calls);
    for _ in 0..calls {
        ticks.tick().await;
        let mut client = client.clone();
        tasks.push(tokio::spawn(async move {
            let start = Instant::now();
            client.check(HealthCheckRequest::default()).await.context("a balanced call failed")?;
            anyhow::Ok(start.elapsed().as_secs_f64() * 1e6)
        }));
    }
    try_join_all(tasks).await?.into_iter().collect()
}

fn add_percentiles(
    figures: &mut Figures,
    name: impl Fn(&str) -> String,
    micros: Vec<f64>,
) -> Result<()> {
    let latencies = Latencies::new(micros.into_iter().map(|micros| micros / 1e6))?;
    for percent in [50.0, 99.0] {
        if let Some(seconds) = latencies.percentile(percent) {
            figures.add(Figure::timed(name(&format!("p{percent}")), seconds * 1e6, "us"));
        }
    }
    Ok(())
}
