//! A source that stops answering is noticed.

use crate::case::{Case, end, instance, park, service};
use registry_core::ErrorKind;

pub(super) async fn a_watch_of_a_silent_source_ends_in_time(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "1")).await;
    let (_, mut watch) = case.follow(&user).await;
    park(&mut watch);
    let limit = case.traits.silence.expect("the scenario applies");
    let deadline = case.lag.deadline(limit + limit / 4);
    case.subject.fall_silent().await;
    let ended = deadline.timeout(end(&mut watch)).await;
    let error = ended.expect("a watch ends within the silence timeout");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
