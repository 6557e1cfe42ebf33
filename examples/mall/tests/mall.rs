//! Runs the mall in one process, and as several processes on real stores.
#![allow(clippy::unwrap_used)]

mod shell;

use self::shell::{Mall, command, output, within};

/// Asserts that no call failed, and that the killed and the drained server got calls only before that.
fn check(told: &[String]) {
    let told_all = told.join("\n");
    assert!(calls(told) > 100, "{told_all}");
    let at = |event: &str| told.iter().position(|line| line.contains(event)).expect(event);
    let time = |event| told[at(event)].split(" s ").next().unwrap().trim().parse::<f64>().unwrap();
    // The ttl is 3 s, and the last renewal was sent at most about a third of it ago.
    let listed = time("carol is removed without a withdrawal") - time("carol is killed");
    assert!(listed > 1.5, "the lease cannot have expired yet:\n{told_all}");
    for (name, event) in [("carol", "carol is killed"), ("bob", "bob is withdrawn")] {
        let (before, after) = told.split_at(at(event));
        let shares = |lines: &[String]| -> Vec<bool> {
            let shares = lines.iter().filter(|line| line.contains("  alice "));
            shares.map(|line| line.contains(&format!("  {name} "))).collect()
        };
        assert!(shares(before).contains(&true), "{name} was never called:\n{told_all}");
        // The event lies within the first of these seconds.
        let after = shares(after);
        assert!(after.len() > 1, "no server was called afterwards:\n{told_all}");
        assert!(!after[1..].contains(&true), "{name} is still called:\n{told_all}");
    }
}

/// Returns the number of calls from the last line, and asserts that none failed.
fn calls(told: &[String]) -> u64 {
    let last = told.last().expect("a last line");
    let calls = last.strip_suffix(" calls, 0 failed").and_then(|calls| calls.parse().ok());
    calls.unwrap_or_else(|| panic!("some failed:\n{}", told.join("\n")))
}

#[tokio::test]
async fn in_one_process_on_memory_no_call_fails() {
    check(&Mall::start(&[]).end().await);
}

#[tokio::test]
async fn a_mall_that_is_stopped_closes_early_and_no_call_fails() {
    let mut mall = Mall::start(&[]);
    mall.until("orders are taken").await;
    mall.until("  alice ").await;
    mall.terminate();
    let told = mall.end().await;
    assert!(calls(&told) > 50);
    for name in ["alice", "bob", "carol"] {
        assert!(told.iter().any(|line| line.contains(&format!("{name} is withdrawn"))), "{told:?}");
    }
    assert!(!told.iter().any(|line| line.contains("killed")), "{told:?}");
}

#[tokio::test]
async fn processes_do_not_share_memory() {
    let output = within(output("mall", &["--processes"])).await;
    assert!(!output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "processes cannot share a registry in memory: use etcd or Redis, registry=`mem://mall`\n"
    );
}

#[tokio::test]
async fn help_does_not_show_a_password() {
    for arguments in [&["--help"][..], &["user", "--help"]] {
        let mut help = command("mall", arguments);
        let output = within(help.env("MALL_REGISTRY", "redis://:s3cret@h").output()).await.unwrap();
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("MALL_REGISTRY") && !help.contains("s3cret"), "{help}");
    }
}

/// Also checks that the keys and values are those of go-zero: the lease in decimal under the name, and `host:port`.
#[cfg(feature = "etcd")]
#[tokio::test]
async fn as_processes_on_etcd_no_call_fails_and_the_keys_are_those_of_go_zero() {
    let etcd = registry_testbed::servers::Etcd::start().await.expect("a server");
    let url = format!("{}?layout=go-zero", etcd.url());
    let mut mall = Mall::start(&["--processes", "--registry", &url]);
    let taken = mall.until("orders are taken").await;
    let endpoint = etcd.endpoint();
    let query = ["--endpoints", &endpoint, "get", "--prefix", "user.rpc/"];
    let stored = String::from_utf8(within(output("etcdctl", &query)).await.stdout).unwrap();

    let lines: Vec<&str> = stored.lines().collect();
    let mut values = Vec::new();
    for pair in lines.chunks(2) {
        let &[key, value] = pair else { panic!("{stored:?}") };
        let lease = key.strip_prefix("user.rpc/").expect(key);
        assert!(lease.parse::<i64>().is_ok_and(|id| id > 0 && id.to_string() == lease), "{key}");
        values.push(value);
    }
    let mut told: Vec<_> =
        taken.iter().filter_map(|line| Some(line.split_once("is registered at ")?.1)).collect();
    values.sort_unstable();
    told.sort_unstable();
    assert_eq!((values.len(), values), (3, told), "{stored:?}");
    check(&mall.end().await);
    let left = within(output("etcdctl", &["--endpoints", &endpoint, "get", "--prefix", ""])).await;
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "", "nothing is left behind");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn as_processes_on_redis_no_call_fails() {
    let redis = registry_testbed::servers::Redis::start().await.expect("a server");
    check(&Mall::start(&["--processes", "--registry", redis.url()]).end().await);
}

/// The store accepts, and does not answer.
#[cfg(feature = "redis")]
#[tokio::test]
async fn a_mall_that_is_stopped_while_it_opens_ends() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let mut mall = Mall::start(&["--registry", &url]);
    mall.until("the mall opens").await;
    mall.terminate();
    assert_eq!(calls(&mall.end().await), 0);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn each_role_can_be_started_by_hand() {
    let redis = registry_testbed::servers::Redis::start().await.expect("a server");
    let registry = ["--registry", redis.url()];
    let mut user = Mall::start(&[&["user", "--name", "dora"], &registry[..]].concat());
    user.until("dora serves at ").await;
    let mut order = Mall::start(&[&["order"], &registry[..]].concat());
    let told = order.until("the order API serves at ").await;
    let (_, address) = told.last().unwrap().rsplit_once(' ').unwrap();
    let url = format!("http://{address}");
    let customer = ["customer", "--url", &url, "--calls", "120"];
    let told = Mall::start(&customer).end().await;
    assert_eq!(calls(&told), 120);
    assert!(told.iter().any(|line| line.contains("  dora ")), "{told:?}");
    for server in [&user, &order] {
        server.terminate();
    }
    user.end().await;
    order.end().await;
}
