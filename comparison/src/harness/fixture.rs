//! Services, their instances, and views of them.

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{CallOptions, Claim, Instance, Registry, ServiceName};
use registry_engine::{
    Discovery, DiscoveryOptions, Registration, RegistrationOptions, Start, View,
};
use registry_mem::MemRegistry;
use std::sync::Arc;
use std::time::Duration;

/// A ttl that outlasts every measurement.
pub const LONG: Duration = Duration::from_secs(3600);

pub fn service(n: usize) -> Result<ServiceName> {
    Ok(format!("payments.service-{n:04}").parse()?)
}

/// Returns the nth instance of a service, with an id of 16 characters and an address in 10.0.0.0/8.
pub fn instance(service: &ServiceName, n: usize) -> Result<Instance> {
    let (a, b, c) = (n >> 16 & 255, n >> 8 & 255, n & 255);
    let (id, address) = (format!("node-{n:011x}"), format!("10.{a}.{b}.{c}:8080"));
    Ok(Instance::from_parts(service.clone(), id.parse()?, address.parse()?))
}

/// Returns services, and instances that are spread evenly over them.
pub fn spread(services: usize, instances: usize) -> Result<(Vec<ServiceName>, Vec<Instance>)> {
    let names = (0..services).map(service).collect::<Result<Vec<_>>>()?;
    let instances = (0..instances).map(|n| instance(&names[n % services], n / services));
    let instances = instances.collect::<Result<_>>()?;
    Ok((names, instances))
}

/// The number of registrations that start or stop concurrently.
pub const AT_ONCE: usize = 256;

/// Starts a registration of each instance, and waits until all are active.
pub async fn start_all(
    store: &Arc<impl Registry>,
    instances: impl IntoIterator<Item = Instance>,
    ttl: Duration,
) -> Result<Vec<Registration>> {
    let options = RegistrationOptions::default().with_ttl(ttl).with_start(Start::InBackground);
    let starts = instances.into_iter().map(async |instance| {
        let registration = Registration::start(store.clone(), instance, options.clone()).await?;
        let mut statuses = registration.statuses();
        while !registration.status().is_active() {
            statuses.next().await.context("a registration ended")?;
        }
        anyhow::Ok(registration)
    });
    stream::iter(starts).buffer_unordered(AT_ONCE).try_collect().await
}

pub fn active(registrations: &[Registration]) -> usize {
    registrations.iter().filter(|registration| registration.status().is_active()).count()
}

/// A service in memory with one changing instance, and a live view of the service.
pub struct ServiceFixture {
    pub registry: MemRegistry,
    pub view: View,
    instance: Instance,
    claim: Claim,
    weight: u32,
}

impl ServiceFixture {
    pub async fn new(instances: usize) -> Result<Self> {
        // A short history is full after few changes, and then each change has its usual cost.
        let registry = MemRegistry::with_history_limit(8);
        let service = service(0)?;
        for n in 1..instances {
            registry
                .register(&instance(&service, n)?, &Claim::new(LONG)?, &CallOptions::DEFAULT)
                .await?;
        }
        let (instance, claim) = (instance(&service, 0)?, Claim::new(LONG)?);
        registry.register(&instance, &claim, &CallOptions::DEFAULT).await?;
        let view = view(Arc::new(registry.clone()), &service).await?;
        Ok(Self { registry, view, instance, claim, weight: 0 })
    }

    pub async fn change(&mut self) -> Result<()> {
        self.weight = self.weight.wrapping_add(1);
        let instance = self.instance.clone().with_weight(self.weight);
        self.registry.register(&instance, &self.claim, &CallOptions::DEFAULT).await?;
        Ok(())
    }
}

/// Returns a live view of `service`, whose liveness probes do not run during a measurement.
pub async fn view(registry: Arc<dyn Registry>, service: &ServiceName) -> Result<View> {
    let options = DiscoveryOptions::default().with_ttl(LONG);
    let view = Discovery::new(registry, options).view(service);
    view.ready(Duration::from_secs(60)).await?;
    Ok(view)
}
