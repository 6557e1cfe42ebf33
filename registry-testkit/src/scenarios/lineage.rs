//! The lineage tells which history an answer belongs to.

use crate::case::{Case, instance, retry, service, within};
use registry_core::{CallOptions, Lineage};

pub(super) async fn the_lineage_does_not_change_with_writes(case: Case<'_>) {
    let user = service("user.rpc");
    let (snapshot, watch) = case.follow(&user).await;
    let lease = case.register(&instance(&user, "1")).await;
    case.keep_alive(&lease).await.unwrap();
    let later = case.load(&user).await;
    assert_eq!(later.lineage(), snapshot.lineage());
    assert_eq!(watch.lineage(), snapshot.lineage());
    let resumed = within(case.registry.watch(&user, later.cursor(), &CallOptions::DEFAULT));
    assert_eq!(resumed.await.unwrap().lineage(), snapshot.lineage());
}

pub(super) async fn a_rollback_starts_another_lineage(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "kept")).await;
    let before = case.load(&user).await;
    if *before.lineage() == Lineage::default() {
        return; // the store cannot tell
    }
    case.subject.backup().await;
    case.register(&instance(&user, "lost")).await;
    case.subject.restore().await;
    let after = retry(|| case.registry.load(&user, &CallOptions::DEFAULT)).await;
    assert_ne!(after.lineage(), before.lineage());
    // A watch has the lineage at its opening, even if its cursor is older.
    for cursor in [before.cursor(), after.cursor()] {
        let watch = within(case.registry.watch(&user, cursor, &CallOptions::DEFAULT)).await;
        assert_eq!(watch.unwrap().lineage(), after.lineage());
    }
}
