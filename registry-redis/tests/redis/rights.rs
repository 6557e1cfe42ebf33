//! The permissions of an owner and of a reader: the documented ones suffice, and each one is needed.

use crate::support::{
    Operator, claim, claim_for, connect, ids, instance, load, next_change, reconnect, register,
    server, service, watch, watch_from_now, within,
};
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::Trace;
use registry_testbed::servers::Redis;
use registry_testkit::case::take_over;
use std::time::Duration;
use tokio::time::sleep;

/// Returns the documented rules of a user, which follow the text `whose`.
fn documented(whose: &str) -> Vec<&'static str> {
    let text = include_str!("../../src/lib.rs");
    let (_, after) = text.split_once(whose).expect("the documentation has it");
    let mut parts = after.split("//! ```");
    let (_, rules) = (parts.next(), parts.next().expect("the rules follow"));
    let words = rules.split_whitespace().filter(|word| !matches!(*word, "text" | "//!"));
    words.collect()
}

/// Returns the rules of the user `name` in the page for operators.
fn on_operators_page(name: &str) -> Vec<&'static str> {
    let text = include_str!("../../../docs/operations.md");
    let (_, after) =
        text.split_once(&format!("ACL SETUSER {name} on '>PASSWORD' ")).expect("a user");
    let command = after.split("\n\n").next().expect("its rules");
    let command = command.split("\n```").next().expect("its rules");
    command
        .split_whitespace()
        .filter(|word| *word != "\\")
        .map(|word| word.trim_matches('\''))
        .collect()
}

const OWNER: &str = "a Redis user that registers needs these ACL rules";
const READER: &str = "A user that only reads";

/// Creates a user. Returns its URL.
async fn user(server: &Redis, name: &str, rules: &[&str]) -> String {
    let mut operator = Operator::of(server).await;
    let words = [&["ACL", "SETUSER", name, "on", ">pw"], rules].concat();
    operator.run_words::<()>(&words).await;
    server.url().replace("redis://", &format!("redis://{name}:pw@"))
}

/// Executes all operations of an owner, including rare ones. Returns the errors.
async fn own(url: &str, operator: &mut Operator) -> Vec<ErrorKind> {
    let mut errors = Vec::new();
    let registry = match connect(url, RedisOptions::default()).await {
        Ok(registry) => registry,
        Err(error) => return vec![error.kind()],
    };
    let options = &CallOptions::DEFAULT;
    macro_rules! run {
        ($call:expr) => {
            match within($call).await {
                Ok(done) => Some(done),
                Err(error) => {
                    errors.push(error.kind());
                    None
                }
            }
        };
    }
    let name = service("user.rpc");
    // Denied calls leave records behind.
    let one = instance("user.rpc", &fastrand::u32(..).to_string());
    let first = claim();
    if let Some(lease) = run!(registry.register(&one, &first, options)) {
        run!(registry.keep_alive(&lease, options));
        let heavier = one.clone().with_weight(3);
        if let Some(updated) = run!(registry.register(&heavier, &first, options)) {
            run!(registry.watch_record(&updated, options));
        }
        if let Some(taken) = run!(take_over(&registry, &one, &claim())) {
            run!(registry.deregister(&taken, options));
        }
    }
    run!(registry.holder(&one, options));
    run!(registry.services(options));
    let brief = instance("user.rpc", &format!("brief-{}", fastrand::u32(..)));
    run!(registry.register(&brief, &claim_for(Duration::from_millis(100)), options));
    sleep(Duration::from_millis(110)).await;
    if let Some(snapshot) = run!(registry.load(&name, options))
        && let Some(mut opened) = run!(registry.watch(&name, snapshot.cursor(), options))
    {
        // A feed without permission to read ends the watch. Other watches wait for a change.
        let ended = tokio::time::timeout(
            Duration::from_millis(100),
            futures_util::StreamExt::next(&mut opened),
        );
        errors.extend(ended.await.ok().flatten().and_then(Result::err).map(|error| error.kind()));
    }
    // A new shard, one that lost a key, and a log with entries of another program.
    run!(registry.register(
        &instance(&format!("fresh-{}", fastrand::u32(..)), "1"),
        &claim(),
        options
    ));
    operator.run::<usize>("DEL {registry/15}:idx {registry/15}:exp").await;
    run!(registry.load(&name, options));
    operator.run::<usize>("HDEL {registry/15}:state meta").await;
    run!(registry.load(&name, options));
    operator.run::<redis::Value>("XADD {registry/15}:log * x y").await;
    if let Some(snapshot) = run!(registry.load(&name, options)) {
        run!(registry.watch(&name, snapshot.cursor(), options));
    }
    let last = instance("user.rpc", &format!("last-{}", fastrand::u32(..)));
    run!(registry.register(&last, &claim_for(Duration::from_millis(100)), options));
    errors
}

#[test]
fn page_for_operators_has_the_documented_permissions() {
    assert_eq!(on_operators_page("user-service"), documented(OWNER));
    assert_eq!(on_operators_page("order-reader"), documented(READER));
}

#[tokio::test]
async fn documented_permissions_of_an_owner_suffice_and_each_is_needed() {
    let server = server(&[]).await;
    let mut operator = Operator::of(&server).await;
    let rules = documented(OWNER);
    let url = user(&server, "app", &rules).await;
    let registry = connect(&url, RedisOptions::default()).await.unwrap();
    let base = instance("user.rpc", "base");
    let lease = within(registry.register(&base, &claim(), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(own(&url, &mut operator).await, []);
    let commands: Vec<_> = rules.iter().filter_map(|rule| rule.strip_prefix('+')).collect();
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        operator.run::<()>("SCRIPT FLUSH").await;
        operator.run::<()>(&format!("ACL SETUSER app -{command}")).await;
        let errors = own(&url, &mut operator).await;
        assert!(errors.contains(&ErrorKind::Denied), "without {command}: {errors:?}");
        operator.run::<()>(&format!("ACL SETUSER app +{command}")).await;
        // The denied calls have damaged nothing.
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.expect(command);
        let errors = own(&url, &mut operator).await;
        assert_eq!(errors, [], "after {command} was permitted again");
        let listed = ids(&registry, "user.rpc").await;
        assert!(listed.contains(&"base".to_owned()), "{command}: {listed:?}");
    }
}

/// Regression: the key pattern of a prefix matched the keys of every prefix that begins with it.
#[tokio::test]
async fn permissions_for_a_prefix_do_not_apply_to_another() {
    let server = server(&[]).await;
    let url = user(&server, "app", &documented(OWNER)).await;
    for prefix in ["other", "registry/x", "registry/07", "reg", "registry0", "registry/07}:state"] {
        let prefix = prefix.replace('}', "");
        let target = format!("{url}?prefix={}", prefix.replace('/', "%2F"));
        let error = connect(&target, RedisOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{prefix}: {error:?}");
    }
}

async fn reader(url: &str) -> registry_core::Result<RedisRegistry> {
    connect(&format!("{url}?access=read"), RedisOptions::default()).await
}

/// Executes all operations of a reader. Returns the errors.
async fn read(url: &str) -> Vec<ErrorKind> {
    let registry = match reader(url).await {
        Ok(registry) => registry,
        Err(error) => return vec![error.kind()],
    };
    let (name, options) = (service("user.rpc"), &CallOptions::DEFAULT);
    let mut errors = Vec::new();
    let mut note = |outcome: registry_core::Result<()>| {
        errors.extend(outcome.err().map(|error| error.kind()));
    };
    note(within(registry.services(options)).await.map(drop));
    note(within(registry.holder(&instance("user.rpc", "1"), options)).await.map(drop));
    let cursor = within(registry.load(&name, options)).await;
    note(cursor.as_ref().map(drop).map_err(Clone::clone));
    if let Ok(snapshot) = cursor {
        match within(registry.watch(&name, snapshot.cursor(), options)).await {
            Err(error) => note(Err(error)),
            Ok(mut opened) => {
                let next = futures_util::StreamExt::next(&mut opened);
                let ended = tokio::time::timeout(Duration::from_millis(100), next).await;
                note(ended.ok().flatten().transpose().map(drop));
            }
        }
    }
    errors
}

#[tokio::test]
async fn documented_permissions_of_a_reader_suffice_and_each_is_needed() {
    let server = server(&[]).await;
    let mut operator = Operator::of(&server).await;
    let rules = documented(READER);
    let url = user(&server, "reader", &rules).await;
    // Before the prefix is first used.
    let early = reader(&url).await.unwrap();
    assert!(load(&early, "user.rpc").await.records().is_empty());
    let mut waiting = watch_from_now(&early, "user.rpc").await;
    let owner = connect(server.url(), RedisOptions::default()).await.unwrap();
    register(&owner, "user.rpc", "1").await;
    let again = crate::support::failure(&mut waiting).await;
    assert_eq!(again, ErrorKind::Diverged, "the history has started");

    assert_eq!(read(&url).await, []);
    for command in rules.iter().filter_map(|rule| rule.strip_prefix('+')) {
        operator.run::<()>("SCRIPT FLUSH").await;
        operator.run::<()>(&format!("ACL SETUSER reader -{command}")).await;
        let errors = read(&url).await;
        assert!(errors.contains(&ErrorKind::Denied), "without {command}: {errors:?}");
        operator.run::<()>(&format!("ACL SETUSER reader +{command}")).await;
        assert_eq!(read(&url).await, [], "{command}");
    }
}

#[tokio::test]
async fn reader_follows_a_service_and_changes_nothing() {
    let server = server(&[]).await;
    let mut operator = Operator::of(&server).await;
    let url = user(&server, "reader", &documented(READER)).await;
    let owner = connect(server.url(), RedisOptions::default()).await.unwrap();
    register(&owner, "user.rpc", "1").await;
    let reader = reader(&url).await.unwrap();
    assert_eq!(ids(&reader, "user.rpc").await, ["1"]);
    let cursor = load(&reader, "user.rpc").await.cursor().clone();
    let mut live = watch(&reader, "user.rpc", &cursor).await;
    register(&owner, "user.rpc", "2").await;
    assert_eq!(next_change(&mut live).await, "+2");

    // An expiry that no owner's call has recorded yet.
    let brief = instance("user.rpc", "brief");
    let ttl = Duration::from_millis(200);
    within(owner.register(&brief, &claim_for(ttl), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(next_change(&mut live).await, "+brief");
    sleep(ttl + Duration::from_millis(20)).await;
    let before = dump(&mut operator).await;
    assert_eq!(ids(&reader, "user.rpc").await, ["1", "2"]);
    assert_eq!(
        load(&reader, "user.rpc").await.undecodable(),
        0,
        "an expired record is not undecodable"
    );
    assert_eq!(read(&url).await, []);
    let refused = within(reader.register(&brief, &claim(), &CallOptions::DEFAULT)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(dump(&mut operator).await, before);
    assert_eq!(ids(&owner, "user.rpc").await, ["1", "2"]);
    assert_eq!(next_change(&mut live).await, "-brief");

    operator.run::<usize>("DEL {registry/15}:idx").await;
    let damaged = within(reader.load(&service("user.rpc"), &CallOptions::DEFAULT)).await;
    assert_eq!(damaged.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(ids(&owner, "user.rpc").await, ["1", "2"]);
    assert_eq!(ids(&reader, "user.rpc").await, ["1", "2"]);
}

/// Regression: a reader cannot delete entries of another program, so each of its watches failed `Diverged`, and so did
/// its loads of several pages.
#[tokio::test]
async fn reader_resumes_although_another_program_wrote_ahead_of_the_history() {
    let server = server(&[]).await;
    let url = user(&server, "reader", &documented(READER)).await;
    let owner = connect(server.url(), RedisOptions::default()).await.unwrap();
    register(&owner, "user.rpc", "1").await;
    let reader = reader(&url).await.unwrap();
    let start = load(&reader, "user.rpc").await.cursor().clone();
    register(&owner, "user.rpc", "2").await;
    let mut operator = Operator::of(&server).await;
    for foreign in ["3-0", "99-0"] {
        operator.run::<String>(&format!("XADD {{registry/15}}:log {foreign} x y")).await;
    }
    let mut resumed = watch(&reader, "user.rpc", &start).await;
    assert_eq!(next_change(&mut resumed).await, "+2");
    register(&owner, "user.rpc", "3").await;
    let mut resumed = watch(&reader, "user.rpc", &start).await;
    for change in ["+2", "+3"] {
        assert_eq!(next_change(&mut resumed).await, change);
    }
}

async fn dump(operator: &mut Operator) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for key in ["state", "idx", "exp", "log"] {
        values.push(operator.run::<Vec<u8>>(&format!("DUMP {{registry/15}}:{key}")).await);
    }
    values
}

/// The libraries below log, too.
#[tokio::test]
async fn no_log_of_a_login_contains_a_password() {
    let trace = Trace::capture();
    let server = server(&[]).await;
    let mut operator = Operator::of(&server).await;
    operator
        .run_words::<()>(&["ACL", "SETUSER", "app", "on", ">pass word", "allkeys", "+@all"])
        .await;
    let with =
        |password: &str| server.url().replace("redis://", &format!("redis://app:{password}@"));
    let registry = connect(&with("pass%20word"), RedisOptions::default()).await.unwrap();
    register(&registry, "user.rpc", "1").await;
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut watch).await, "+2");
    connect(&with("wr%2Fong"), RedisOptions::default()).await.unwrap_err();
    // Closed connections are replaced, with a login.
    operator.cut("registry").await;
    reconnect(&registry).await;
    let text = trace.text();
    assert!(!text.is_empty(), "something must be logged");
    for secret in ["pass word", "pass%20word", "pass+word", "wr/ong", "wr%2Fong"] {
        assert!(!text.contains(secret), "{secret}");
    }
}
