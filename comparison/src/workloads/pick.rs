//! Pick a random instance of a service.

use crate::harness::{ServiceFixture, as_f64, thread_time};
use anyhow::Result;
use fastrand::Rng;
use registry_core::{Record, Records, ServiceName};
use registry_engine::View;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{PoisonError, RwLock};

const INSTANCES: usize = 100;
const SERVICES: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// From a slice that never changes.
    Slice,
    State,
    Reader,
    /// From a map of all services behind a lock, the usual first design.
    RwlockMap,
}

pub struct Picks {
    pub view: View,
    slice: Records,
    map: RwLock<HashMap<ServiceName, Records>>,
}

impl Picks {
    pub async fn new() -> Result<Self> {
        Self::from_view(ServiceFixture::new(INSTANCES).await?.view)
    }

    pub fn from_view(view: View) -> Result<Self> {
        let (slice, name) = (view.state().records().clone(), view.service().clone());
        let others = (1..SERVICES).map(|n| Ok((format!("bench-{n}").parse()?, slice.clone())));
        let mut map = others.collect::<Result<HashMap<_, _>>>()?;
        map.insert(name, slice.clone());
        Ok(Self { view, slice, map: RwLock::new(map) })
    }
}

impl Pick {
    pub fn name(self) -> &'static str {
        match self {
            Self::Slice => "slice index",
            Self::State => "state()",
            Self::Reader => "reader()",
            Self::RwlockMap => "rwlock_map",
        }
    }

    pub fn run(self, from: &Picks, iterations: u64) {
        let (mut rng, view) = (Rng::with_seed(7), &from.view);
        match self {
            Self::Slice => {
                let slice: &[Record] = black_box(&from.slice);
                repeat(iterations, || choose(slice, &mut rng));
            }
            Self::State => repeat(iterations, || choose(view.state().records(), &mut rng)),
            Self::Reader => {
                let mut reader = view.reader();
                repeat(iterations, || choose(reader.state().records(), &mut rng));
            }
            Self::RwlockMap => {
                let name = view.service();
                repeat(iterations, || {
                    let map = from.map.read().unwrap_or_else(PoisonError::into_inner);
                    choose(&map[black_box(name)], &mut rng);
                });
            }
        }
    }

    /// Returns the nanoseconds of CPU time of this thread per pick.
    pub fn time(self, from: &Picks, iterations: u64) -> f64 {
        let start = thread_time();
        self.run(from, iterations);
        (thread_time() - start) * 1e9 / as_f64(iterations)
    }
}

#[inline]
pub fn repeat(iterations: u64, mut pick: impl FnMut()) {
    for _ in 0..iterations {
        pick();
    }
}

#[inline]
pub fn choose(instances: &[Record], rng: &mut Rng) {
    black_box(&instances[rng.usize(..instances.len())]);
}
