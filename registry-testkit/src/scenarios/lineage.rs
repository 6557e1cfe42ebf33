//! Which history an answer belongs to.

use crate::case::{Case, instance, service, within};
use registry_core::CallOptions;

pub(super) async fn the_lineage_stays_while_nothing_happens(case: Case<'_>) {
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
