//! Tests of the self-test that works on any store.

use registry_core::diagnosis::{Level, check, self_test};
use registry_core::{CallOptions, Registry};
use registry_mem::{Fault, FaultyRegistry, MemRegistry};
use std::future::pending;

#[tokio::test]
async fn a_self_test_leaves_nothing_behind() {
    let registry = MemRegistry::new();
    let levels: Vec<_> =
        self_test(&registry).await.iter().map(|found| (found.check, found.level)).collect();
    assert_eq!(levels, [("answer", Level::Ok), ("register", Level::Ok)]);
    assert!(registry.services(&CallOptions::DEFAULT).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_fails_every_check() {
    for fault in [Fault::Outage, Fault::Silence] {
        let registry = FaultyRegistry::new(MemRegistry::new());
        registry.inject(fault);
        let findings = self_test(&registry).await;
        let levels: Vec<_> = findings.iter().map(|found| found.level).collect();
        assert_eq!(levels, [Level::Error, Level::Error], "{fault:?}: {findings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_fails_at_its_deadline() {
    let found = check("slow", pending()).await;
    assert_eq!((found[0].check, found[0].level), ("slow", Level::Error));
    assert!(found[0].message.contains("took too long"), "{found:?}");
}
