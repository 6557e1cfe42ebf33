//! A watch ends if its source is silent.

use crate::case::{Case, deleted, end, instance, next, park, pass, service, within};
use futures_util::future::join_all;
use registry_core::{CallOptions, ErrorKind};

pub(super) async fn a_watch_of_a_silent_source_ends_in_time(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "1")).await;
    let (_, mut watch) = case.follow(&user).await;
    park(&mut watch);
    let limit = case.traits.silence.expect("the scenario applies");
    let deadline = case.lag.deadline(limit + limit / 4);
    case.subject.fall_silent().await;
    let ended = deadline.timeout(end(&mut watch)).await;
    let error = ended.expect("the watch does not end within the silence timeout");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_silence(), "{error}");
}

pub(super) async fn every_watch_of_a_silent_source_ends_in_time(case: Case<'_>) {
    let (user, other) = (service("user.rpc"), service("other"));
    let lease = case.register(&instance(&user, "1")).await;
    let mut watches = Vec::new();
    for name in [&user, &user, &other] {
        watches.push(case.follow(name).await.1);
    }
    // Each watch has delivered a batch before.
    for name in [&user, &other] {
        case.register(&instance(name, "2")).await;
    }
    for watch in &mut watches {
        next(watch).await;
    }
    if case.traits.watches_records {
        let own = within(case.registry.watch_record(&lease, &CallOptions::DEFAULT)).await;
        watches.push(own.unwrap());
    }
    watches.iter_mut().for_each(park);
    let limit = case.traits.silence.expect("the scenario applies");
    let deadline = case.lag.deadline(limit + limit / 4);
    case.subject.fall_silent().await;
    join_all(watches.iter_mut().enumerate().map(|(n, watch)| {
        let deadline = &deadline;
        async move {
            let ended = deadline.timeout(end(watch)).await;
            let error = ended.unwrap_or_else(|_| panic!("watch {n} does not end in time"));
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.is_silence(), "{error}");
        }
    }))
    .await;
}

pub(super) async fn a_watch_without_changes_stays_open_while_its_source_answers(case: Case<'_>) {
    let user = service("user.rpc");
    let lease = case.register(&instance(&user, "1")).await;
    let (_, mut watch) = case.follow(&user).await;
    let limit = case.traits.silence.expect("the scenario applies");
    pass(limit + limit / 4).await;
    park(&mut watch);
    case.deregister(&lease).await;
    assert_eq!(&deleted(next(&mut watch).await), lease.instance().id());
}
