//! The keys of a shard of the prefix `test`.

use redis::aio::MultiplexedConnection;
use registry_core::ServiceName;

/// Returns a key of the shard of `service`: FNV-1a of its name, modulo 16.
pub(crate) fn key(service: &ServiceName, name: &str) -> String {
    let hash = service.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{{test/{:02}}}:{name}", hash % 16)
}

/// Makes the leases of `members` expire. The next call on the shard deletes them.
pub(crate) async fn make_due(
    redis: &mut MultiplexedConnection,
    service: &ServiceName,
    members: &[String],
) {
    let script = redis::Script::new(
        "for _, member in ipairs(ARGV) do redis.call('ZADD', KEYS[2], 'XX', 0, member) end
        local meta = redis.call('GET', KEYS[1])
        local before, after = string.match(meta, '^(%S+ %S+ %S+ %S+ )%S+(.*)$')
        redis.call('SET', KEYS[1], before .. '0' .. after)",
    );
    let mut call = script.key(key(service, "meta"));
    call.key(key(service, "exp")).arg(members);
    call.invoke_async::<()>(redis).await.unwrap();
}
