//! A service sees only its own instances.

use crate::case::{Case, id, instance, next, put, service, until};
use registry_core::{CallOptions, Instance};

pub(super) async fn services_that_share_a_prefix_see_only_their_own_instances(case: Case<'_>) {
    let names = ["user", "user2", "user/a", "user/a/b", "use", "user.", "User"].map(service);
    let mut watches = Vec::new();
    for name in &names {
        watches.push(case.follow(name).await.1);
    }
    for name in &names {
        case.register(&instance(name, "a")).await;
        case.register(&instance(name, &name.as_str().replace('/', "-"))).await;
        case.register(&instance(name, "last")).await;
    }
    for (name, watch) in names.iter().zip(&mut watches) {
        let seen: Vec<_> = until(watch, &id("last")).await.into_iter().map(put).collect();
        let own = |instance: &Instance| instance.service() == name;
        assert!(seen.len() == 3 && seen.iter().all(own), "{name}: {seen:?}");
        let snapshot = case.load(name).await;
        assert_eq!(snapshot.instances().len(), 3);
        assert!(snapshot.instances().all(|instance| instance.service() == name));
    }
    case.subject.evict(&names[0]).await;
    for name in &names[1..] {
        assert_eq!(case.load(name).await.instances().len(), 3, "{name}");
    }
}

pub(super) async fn names_with_special_characters_are_stored_and_listed(case: Case<'_>) {
    let long = "n".repeat(255);
    let odd =
        ["%", "%2F", "a%2Fb", "a b", "\u{e9}\u{1F980}", "a:b", "{a}", "a*?[x]", "\\", "'\"", &long];
    let ids = [&odd[..], &["..", "~meta"]].concat(); // the last two are invalid as service names
    for name in odd {
        let name = service(name);
        let (_, mut watch) = case.follow(&name).await;
        for id in &ids {
            let instance = instance(&name, id);
            case.register(&instance).await;
            assert_eq!(put(next(&mut watch).await), instance);
        }
        let mut expected = ids.clone();
        expected.sort_unstable();
        assert_eq!(case.ids(&name).await, expected, "{name}");
    }
    let listed = crate::case::within(case.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, odd.map(service).into());
}

/// There are more services than a store has shards, so that some share one.
pub(super) async fn services_that_share_a_shard_do_not_mix(case: Case<'_>) {
    let names: Vec<_> = (0..40).map(|n| service(&format!("service-{n}"))).collect();
    for name in &names {
        case.register(&instance(name, name.as_str())).await;
    }
    for name in &names {
        let snapshot = case.load(name).await;
        assert_eq!(snapshot.instances().collect::<Vec<_>>(), [&instance(name, name.as_str())]);
        assert_eq!(snapshot.undecodable(), 0, "{name}");
    }
}
