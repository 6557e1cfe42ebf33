//! The life of a service, in memory, or on a store:
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

    // A caller: its view is kept up to date, and always there to be read.
    let view = client.discover(&service)?;
    view.ready(Duration::from_secs(5)).await?;
    let mut updates = view.updates();
    let mut heard = async || told(&updates.next().await.expect("the runtime lives"));
    say(heard().await);
    say(heard().await);

    // Alice serves, and stays registered whatever happens to the store. Bob dies at once.
    let alice = Instance::from_parts(service.clone(), "alice".parse()?, "10.0.0.1:8080".parse()?);
    let options = RegistrationOptions::default().with_ttl(ttl);
    let alice = client.register_with(alice, options).await?;
    let bob = Instance::from_parts(service, "bob".parse()?, "10.0.0.2:8080".parse()?);
    client.registry().register(&bob, &Claim::new(ttl)?, &CallOptions::DEFAULT).await?; // never renewed
    for _ in ["alice is Up", "bob is Up", "bob is gone"] {
        say(heard().await);
    }
    let callee = view.state().available().next().cloned().expect("alice is up");
    say(format!("left is {}", callee.address()));

    // Alice leaves: callers first learn that she takes nothing new, then that she is gone.
    alice.drain(Duration::from_millis(500)).await?;
    for _ in ["alice is Draining", "alice is gone"] {
        say(heard().await);
    }
    Ok(())
}

fn told(update: &Update) -> String {
    match update {
        Update::Reset(snapshot) => format!("there are {}", snapshot.instances().len()),
        Update::Batch(batch) => match &batch.changes[0] {
            Change::Put(record) => format!("{} is {:?}", record.id(), record.instance().status()),
            Change::Delete(deleted) => format!("{} is gone", deleted.id()),
        },
        Update::Status(status) => format!("the view is {status}"),
    }
}
