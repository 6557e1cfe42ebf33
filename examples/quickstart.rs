//! The life of a service, on any store:
//!
//! ```text
//! cargo run --example quickstart
//! cargo run --example quickstart --features etcd -- etcd://127.0.0.1:2379
//! cargo run --example quickstart --features redis -- redis://127.0.0.1:6379
//! ```

use futures_util::StreamExt;
use service_registry::{
    Batch, Change, Claim, Instance, InstanceId, Registry, Result, ServiceName, Status, connect,
};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mem://".into());
    if let Err(error) = story(&url, |line| println!("{line}")).await {
        eprintln!("{error}\n{}", error.kind().advice());
        std::process::exit(1);
    }
}

pub(crate) async fn story(url: &str, mut say: impl FnMut(String)) -> Result<()> {
    let registry = connect(url).await?;
    let service: ServiceName = "user.rpc".parse()?;
    let alice = Instance::new(service.clone(), "alice".parse()?, "10.0.0.1:8080".parse()?);
    let bob = Instance::new(service.clone(), "bob".parse()?, "10.0.0.2:8080".parse()?);
    let claim = Claim::new(Duration::from_secs(2))?; // drawn once, so that register can be repeated

    registry.register(&alice, &claim).await?;
    let snapshot = registry.load(&service).await?;
    say(format!("loaded {:?}", snapshot.instances().ids().collect::<Vec<_>>()));
    let mut watch = registry.watch(&service, snapshot.cursor()).await?;

    registry.register(&bob, &Claim::new(Duration::from_secs(2))?).await?; // and never renewed
    let lease = registry.register(&alice.with_status(Status::Draining), &claim).await?;
    let mut renewals = tokio::time::interval(lease.ttl() / 3);
    loop {
        tokio::select! {
            _ = renewals.tick() => registry.keep_alive(&lease).await?,
            batch = watch.next() => {
                let gone = told(&batch.expect("a watch goes on")?, &mut say);
                if gone.as_ref() == Some(bob.id()) {
                    break;
                }
            }
        }
    }
    registry.deregister(&lease).await?;
    while told(&watch.next().await.expect("a watch goes on")?, &mut say).is_none() {}
    Ok(())
}

/// Says what a batch changed. The id, if one is gone.
fn told(batch: &Batch, say: &mut impl FnMut(String)) -> Option<InstanceId> {
    let change = batch.changes.first()?; // none: progress
    say(match change {
        Change::Put(instance) => {
            format!("revision {}: {} is {:?}", batch.revision(), change.id(), instance.status())
        }
        Change::Delete(id) => format!("revision {}: {id} is gone", batch.revision()),
    });
    matches!(change, Change::Delete(_)).then(|| change.id().clone())
}
