//! The memory of an instance in a view.

use crate::arms::decoded;
use crate::harness::fixture::{instance, service, view};
use crate::harness::{Figure, Figures, Heap, as_f64, one_thread};
use anyhow::ensure;
use async_trait::async_trait;
use futures_util::stream;
use registry_core::encoding;
use registry_core::{
    BoxError, CallOptions, Claim, Cursor, Error, ErrorKind, Holder, Instance, Lease, Origin,
    Record, Registry, Result, Revision, ServiceName, Snapshot, Watch,
};
use std::sync::Arc;
use std::time::Duration;

/// The number of instances, in 1,000 services or in one.
const ALL: usize = 100_000;

/// 64 bytes: two keys and their values.
const METADATA: [(&str, &str); 2] =
    [("zone", "eu-central-1a"), ("version", "payments-2026.11.22-build.4711-ab12cd34e")];

pub(super) fn figures(_: bool) -> anyhow::Result<Figures> {
    ensure!(Heap::IS_COUNTED, "this set needs `--features heap`");
    let mut figures = Figures::default();
    for metadata in [false, true] {
        for (services, per_service) in [(1_000, 100), (1, ALL)] {
            // The end of a runtime frees the memory of its tasks.
            let store = GeneratedStore { per_service, metadata };
            let (loaded, mapped) = one_thread()?.block_on(bytes_per_instance(store, services))?;
            let with = if metadata { "64 B of metadata" } else { "no metadata" };
            let name = format!("{with}, {services} services of {per_service} instances");
            figures.add(Figure::counted(&name, loaded, "B").at_most(250.0).aim(160.0));
            if metadata {
                let name = format!("{name}, with all metadata maps built");
                figures.add(Figure::counted(name, mapped, "B"));
            }
        }
    }
    figures.note("bytes per instance without address and metadata; malloc adds ~8 per allocation");
    Ok(figures)
}

/// Returns the bytes per instance without address and metadata: after the load, and after all metadata maps are built.
async fn bytes_per_instance(store: GeneratedStore, services: usize) -> anyhow::Result<(f64, f64)> {
    let all = services * store.per_service;
    let names = (0..services).map(service).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut views, registry) = (Vec::with_capacity(services), Arc::new(store));
    let per_instance = |grown: f64, payload: usize| (grown - as_f64(payload)) / as_f64(all);
    let heap = Heap::now();
    for name in &names {
        views.push(view(registry.clone(), name).await?);
    }
    let grown = heap.grown();
    // Reading the metadata builds its maps, so the heap grows until the second figure.
    let payload =
        views.iter().map(|view| view.state().instances().map(payload).sum::<usize>()).sum();
    Ok((per_instance(grown, payload), per_instance(heap.grown(), payload)))
}

/// Returns the bytes of address and metadata. Reading the metadata builds its map.
fn payload(instance: &Instance) -> usize {
    let metadata = instance.metadata().iter().map(|(key, value)| key.len() + value.len());
    instance.address().to_string().len() + metadata.sum::<usize>()
}

/// A store of generated instances. Each load decodes their records again.
#[derive(Debug)]
struct GeneratedStore {
    per_service: usize,
    metadata: bool,
}

impl GeneratedStore {
    fn list(&self, service: &ServiceName) -> std::result::Result<Vec<Record>, BoxError> {
        let mut listed = Vec::new();
        for n in 0..self.per_service {
            let mut instance = instance(service, n)?;
            if self.metadata {
                instance = instance.with_metadata(METADATA);
            }
            let id = instance.id().as_str().parse()?;
            let record = encoding::encode(&Record::new(instance))?;
            listed.push(decoded(service, &id, &record)?);
        }
        Ok(listed)
    }
}

#[async_trait]
impl Registry for GeneratedStore {
    async fn load(&self, service: &ServiceName, _: &CallOptions) -> Result<Snapshot> {
        let cursor = Origin::new("held", "", service).cursor(Revision::new(1), 0);
        let list = self.list(service).map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot generate the records").with_source(error)
        });
        Ok(Snapshot::new(cursor, list?))
    }

    async fn watch(&self, _: &ServiceName, after: &Cursor, _: &CallOptions) -> Result<Watch> {
        Ok(Watch::new(after.clone(), stream::pending()))
    }

    async fn register(&self, _: &Instance, _: &Claim, _: &CallOptions) -> Result<Lease> {
        Err(unsupported())
    }

    async fn holder(&self, _: &Instance, _: &CallOptions) -> Result<Option<Holder>> {
        Err(unsupported())
    }

    async fn keep_alive(&self, _: &Lease, _: &CallOptions) -> Result<Duration> {
        Err(unsupported())
    }

    async fn deregister(&self, _: &Lease, _: &CallOptions) -> Result<()> {
        Err(unsupported())
    }
}

fn unsupported() -> Error {
    Error::new(ErrorKind::Denied, "this store only loads and watches")
}
