//! A writer that competes with others for ids.

use crate::case::{LONG, take_over, try_again, version};
use fastrand::Rng;
use futures_util::TryFutureExt;
use registry_core::{CallOptions, Claim, ErrorKind, Lease, Registry, Result, ServiceName};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::yield_now;

/// A writer that registers, updates, renews and withdraws at random, and competes for a few ids.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// The number of ids that writers compete for.
    pub ids: u8,
    /// The number of operations to make.
    pub operations: usize,
    /// The seed of the random operations.
    pub seed: u64,
}

impl Contender {
    /// Makes all operations. Returns the acknowledged leases, and adds the number of retried calls to
    /// `failures`.
    pub async fn run(
        self,
        store: &dyn Registry,
        name: &ServiceName,
        failures: &AtomicUsize,
    ) -> Vec<Lease> {
        let mut random = Rng::with_seed(self.seed);
        let (mut held, mut acknowledged) = (Vec::<(Claim, Lease)>::new(), Vec::new());
        for n in 0..self.operations {
            let one = version(name, &random.u8(0..self.ids).to_string(), n);
            match random.u8(0..10) {
                0..=4 => {
                    let claim = Claim::new(LONG).unwrap();
                    let takes_over = random.bool();
                    let register = || async {
                        if takes_over {
                            return take_over(store, &one, &claim).await;
                        }
                        store.register(&one, &claim, &CallOptions::DEFAULT).await
                    };
                    match retry_counted(failures, register).await {
                        Ok(lease) => {
                            acknowledged.push(lease.clone());
                            held.push((claim, lease));
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Superseded, "{error}"),
                    }
                }
                5..=6 if !held.is_empty() => {
                    let n = random.usize(..held.len());
                    let (claim, lease) = &mut held[n];
                    let update = lease.instance().clone().with_weight(random.u32(..));
                    match retry_counted(failures, || {
                        store.register(&update, claim, &CallOptions::DEFAULT)
                    })
                    .await
                    {
                        Ok(updated) => {
                            acknowledged.push(updated.clone());
                            *lease = updated;
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Superseded, "{error}"),
                    }
                }
                7 if !held.is_empty() => {
                    let (_, lease) = &held[random.usize(..held.len())];
                    if let Err(error) =
                        retry_counted(failures, || store.keep_alive(lease, &CallOptions::DEFAULT))
                            .await
                    {
                        assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
                    }
                }
                _ if !held.is_empty() => {
                    let (_, lease) = held.swap_remove(random.usize(..held.len()));
                    retry_counted(failures, || store.deregister(&lease, &CallOptions::DEFAULT))
                        .await
                        .unwrap();
                }
                _ => {}
            }
            yield_now().await;
        }
        acknowledged
    }
}

/// Retries a call while it fails with `Unavailable`, and counts these failures.
pub async fn retry_counted<T, F: Future<Output = Result<T>>>(
    failures: &AtomicUsize,
    call: impl Fn() -> F,
) -> Result<T> {
    try_again(|| {
        call().inspect_err(|error| {
            if error.kind() == ErrorKind::Unavailable {
                failures.fetch_add(1, Ordering::Relaxed);
            }
        })
    })
    .await
}
