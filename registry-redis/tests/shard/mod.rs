//! The keys of a shard of the prefix `test`, and scripts for an operator.

#![allow(dead_code)] // each binary uses a part of it

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use registry_core::ServiceName;

/// Returns a key of the shard of `service`: FNV-1a of its name, modulo 16.
pub(crate) fn key(service: &ServiceName, name: &str) -> String {
    let hash = service.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{{test/{:02}}}:{name}", hash % 16)
}

/// Runs the body of a script on the shard of `service`, after the library's common head.
pub(crate) async fn run_script<T: FromRedisValue>(
    redis: &mut MultiplexedConnection,
    service: &ServiceName,
    body: &str,
    args: &[&str],
) -> T {
    let info: String = redis::cmd("INFO").arg("server").query_async(redis).await.unwrap();
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap();
    let script = redis::Script::new(&[include_str!("../../src/scripts/head.lua"), body].concat());
    let mut call = script.prepare_invoke();
    for name in ["state", "idx", "exp", "log"] {
        call.key(key(service, name));
    }
    call.arg(run_id).arg(10_000).arg(args);
    call.invoke_async(redis).await.unwrap()
}

/// Deletes the records of `service` whose members `which` selects, without a reason. Returns their number.
pub(crate) async fn delete(
    redis: &mut MultiplexedConnection,
    service: &ServiceName,
    which: impl Fn(&str) -> bool,
) -> usize {
    let body = "local _, remove = writer()
        for i = 5, #ARGV do remove(ARGV[i], '') end
        save()";
    let mut range = redis::cmd("ZRANGE");
    range.arg(key(service, "idx")).arg(0).arg(-1);
    let members: Vec<String> = range.query_async(redis).await.unwrap();
    let own = format!("{service}\u{1f}");
    let picked = |member: &&str| member.starts_with(&own) && which(member);
    let members: Vec<&str> = members.iter().map(String::as_str).filter(picked).collect();
    if !members.is_empty() {
        let args = [&["", ""], &members[..]].concat();
        run_script::<()>(redis, service, body, &args).await;
    }
    members.len()
}
