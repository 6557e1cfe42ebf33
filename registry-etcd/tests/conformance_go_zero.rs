//! The etcd store in go-zero's layout, held to the whole contract.
//!
//! The kit names its instances as it likes, and in this layout they have numbers.
#![allow(clippy::unwrap_used)]

#[path = "subject/public.rs"]
mod public;
#[path = "subject/renamed.rs"]
mod renamed;
mod subject;

use async_trait::async_trait;
use etcd_client::Client;
use registry_core::{InstanceId, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use renamed::{Names, Renamed};
use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use subject::{Members, SubjectLayout};

fn main() -> ExitCode {
    subject::run::<GoZero>(Members::One, "?layout=go-zero")
}

struct GoZero(Numbers);

#[async_trait]
impl SubjectLayout for GoZero {
    fn over(registry: EtcdRegistry) -> (Self, Arc<dyn Registry>) {
        let numbers = Numbers::default();
        (Self(numbers.clone()), Arc::new(Renamed::new(registry, numbers)))
    }

    async fn evict(&self, client: &mut Client, service: &ServiceName) -> i64 {
        public::evict(client, format!("{service}/")).await
    }

    fn key(&self, service: &ServiceName, id: &InstanceId) -> String {
        format!("{service}/{}", self.0.stored_id(id))
    }
}

/// Which name has which number.
#[derive(Clone, Debug, Default)]
struct Numbers(Arc<Mutex<HashMap<InstanceId, InstanceId>>>);

impl Names for Numbers {
    /// The number of a name, given it when it is first asked for.
    fn stored_id(&self, shown: &InstanceId) -> InstanceId {
        let mut numbers = self.0.lock().unwrap();
        let next = numbers.len() + 1;
        numbers.entry(shown.clone()).or_insert_with(|| next.to_string().parse().unwrap()).clone()
    }

    fn shown_id(&self, stored: &InstanceId) -> InstanceId {
        let numbers = self.0.lock().unwrap();
        let (name, _) = numbers.iter().find(|(_, each)| *each == stored).expect("it has a name");
        name.clone()
    }
}
