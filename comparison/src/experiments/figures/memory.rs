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

const ALL: usize = 100_000;

/// 64 bytes: two keys and their values.
const METADATA: [(&str, &str); 2] =
    [("zone", "eu-central-1a"), ("version", "payments-2026.11.22-build.4711-ab12cd34e")];

pub(super) fn figures(_: bool) -> anyhow::Result<Figures> {
    ensure!(Heap::IS_COUNTED, "this set needs `--features heap`");
    let mut figures = Figures::default();
    for metadata in [false, true] {
        for (services, each) in [(1_000, 100), (1, ALL)] {
            // The end of a runtime frees the memory of its tasks.
            let (fresh, read) = one_thread()?.block_on(hold(Store { each, metadata }, services))?;
            let with = if metadata { "64 B of metadata" } else { "no metadata" };
            let name = format!("{with}, {services} x {each}");
            figures.add(Figure::counted(&name, fresh, "B").at_most(250.0).aim(160.0));
            if metadata {
                figures.add(Figure::counted(format!("{name}, each map read"), read, "B"));
            }
        }
    }
    figures
        .note("bytes that are held beyond address and metadata; malloc adds some 8 per allocation");
    Ok(figures)
}

/// Returns the bytes per instance beyond address and metadata: loaded, and after all metadata was read.
async fn hold(store: Store, services: usize) -> anyhow::Result<(f64, f64)> {
    let all = services * store.each;
    let names = (0..services).map(service).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut views, registry) = (Vec::with_capacity(services), Arc::new(store));
    let each = |grown: f64, payload: usize| (grown - as_f64(payload)) / as_f64(all);
    let heap = Heap::now();
    for name in &names {
        views.push(view(registry.clone(), name).await?);
    }
    let grown = heap.grown();
    let instances = || views.iter().map(|view| view.state().records().clone());
    let payload: usize =
        instances().flat_map(|all| all.instances().map(payload).collect::<Vec<_>>()).sum();
    Ok((each(grown, payload), each(heap.grown(), payload)))
}

/// Returns the bytes of address and metadata. Reading the metadata builds its map.
fn payload(instance: &Instance) -> usize {
    let metadata = instance.metadata().iter().map(|(key, value)| key.len() + value.len());
    instance.address().to_string().len() + metadata.sum::<usize>()
}

/// A store of generated instances. Each load decodes their records again.
#[derive(Debug)]
struct Store {
    each: usize,
    metadata: bool,
}

impl Store {
    fn list(&self, service: &ServiceName) -> std::result::Result<Vec<Record>, BoxError> {
        let mut listed = Vec::new();
        for n in 0..self.each {
            let mut from = instance(service, n)?;
            if self.metadata {
                from = from.with_metadata(METADATA);
            }
            let (id, record) =
                (from.id().as_str().parse()?, encoding::encode(&Record::new(from.clone()))?);
            listed.push(decoded(service, &id, &record)?);
        }
        Ok(listed)
    }
}

#[async_trait]
impl Registry for Store {
    async fn load(&self, service: &ServiceName, _: &CallOptions) -> Result<Snapshot> {
        let cursor = Origin::new("held", "", service).cursor(Revision::new(1), 0);
        let list = self.list(service).map_err(|error| {
            Error::new(ErrorKind::Internal, "a record does not decode").with_source(error)
        });
        Ok(Snapshot::new(cursor, list?))
    }

    async fn watch(&self, _: &ServiceName, after: &Cursor, _: &CallOptions) -> Result<Watch> {
        Ok(Watch::new(after.clone(), stream::pending()))
    }

    async fn register(&self, _: &Instance, _: &Claim, _: &CallOptions) -> Result<Lease> {
        Err(read_only())
    }

    async fn holder(&self, _: &Instance, _: &CallOptions) -> Result<Option<Holder>> {
        Err(read_only())
    }

    async fn keep_alive(&self, _: &Lease, _: &CallOptions) -> Result<Duration> {
        Err(read_only())
    }

    async fn deregister(&self, _: &Lease, _: &CallOptions) -> Result<()> {
        Err(read_only())
    }
}

fn read_only() -> Error {
    Error::new(ErrorKind::Denied, "this store is read-only")
}
