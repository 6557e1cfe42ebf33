//! Two instances come and go, and a view follows them. In memory, or on a server:
//! `cargo run --example quickstart --features etcd -- etcd://127.0.0.1:2379`

use futures_util::StreamExt;
use service_registry::store::{CallOptions, Change, Claim, Registry};
use service_registry::{Instance, RegistrationOptions, Result, ServiceName, Update, connect};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mem://".into());
    if let Err(error) = story(&url, |line| println!("{line}")).await {
        eprintln!("{}\n{}", error.chain(), error.kind().advice());
        std::process::exit(1);
    }
}

pub(crate) async fn story(url: &str, mut say: impl FnMut(String)) -> Result<()> {
    let client = connect(url).await?;
    let service: ServiceName = "user.rpc".parse()?;
    let ttl = Duration::from_secs(2);

    // A caller: the library keeps its view up to date.
    let view = client.discover(&service)?;
    view.ready(Duration::from_secs(5)).await?;
    let mut updates = view.updates();
    let mut next = async || describe(&updates.next().await.expect("the runtime lives"));
    say(next().await);
    say(next().await);

    // Alice stays registered through every store outage. Bob never renews its lease, as if its process had crashed.
    let alice = Instance::from_parts(service.clone(), "alice".parse()?, "10.0.0.1:8080".parse()?);
    let options = RegistrationOptions::default().with_ttl(ttl);
    let alice = client.register_with(alice, options).await?;
    let bob = Instance::from_parts(service, "bob".parse()?, "10.0.0.2:8080".parse()?);
    client.registry().register(&bob, &Claim::new(ttl)?, &CallOptions::DEFAULT).await?;
    for _ in ["alice is Up", "bob is Up", "bob is removed"] {
        say(next().await);
    }
    let callee = view.state().available().next().cloned().expect("alice is up");
    say(format!("available: {}", callee.address()));

    // Alice drains, so that callers move to other instances, and is then withdrawn.
    alice.drain(Duration::from_millis(500)).await?;
    for _ in ["alice is Draining", "alice is removed"] {
        say(next().await);
    }
    Ok(())
}

fn describe(update: &Update) -> String {
    match update {
        Update::Reset(snapshot) => format!("instances: {}", snapshot.instances().len()),
        Update::Batch(batch) => match &batch.changes[0] {
            Change::Put(record) => format!("{} is {:?}", record.id(), record.instance().status()),
            Change::Delete(deleted) => format!("{} is removed", deleted.id()),
        },
        Update::Status(status) => format!("the view is {status}"),
    }
}
