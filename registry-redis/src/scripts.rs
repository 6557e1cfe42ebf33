//! The Lua scripts: nothing else changes a shard. Each file opens with its contract.

use std::sync::LazyLock;

/// A script, and the name by which a server that has run it knows it.
pub(crate) struct Script {
    pub(crate) code: &'static str,
    pub(crate) sha1: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, sha1: redis::Script::new(code).get_hash().to_owned() }
    }
}

/// Makes the script of a file, with the common head and other parts before it.
macro_rules! script {
    ($($file:literal),+) => {
        LazyLock::new(|| {
            Script::new(concat!(include_str!("scripts/head.lua"), $(include_str!($file)),+))
        })
    };
}

pub(crate) static REGISTER: LazyLock<Script> =
    script!("scripts/whole.lua", "scripts/deadline.lua", "scripts/register.lua");
pub(crate) static HOLDER: LazyLock<Script> = script!("scripts/whole.lua", "scripts/holder.lua");
pub(crate) static KEEP_ALIVE: LazyLock<Script> =
    script!("scripts/whole.lua", "scripts/deadline.lua", "scripts/keep_alive.lua");
pub(crate) static DEREGISTER: LazyLock<Script> = script!("scripts/deregister.lua");
pub(crate) static FIND_RECORD: LazyLock<Script> =
    script!("scripts/whole.lua", "scripts/expiry.lua", "scripts/find_record.lua");
pub(crate) static LOAD: LazyLock<Script> = script!("scripts/whole.lua", "scripts/load.lua");
pub(crate) static READ_LOG: LazyLock<Script> =
    script!("scripts/whole.lua", "scripts/expiry.lua", "scripts/read_log.lua");
pub(crate) static INSPECT: LazyLock<Script> = script!("scripts/whole.lua", "scripts/inspect.lua");
pub(crate) static SERVICES: LazyLock<Script> = script!("scripts/whole.lua", "scripts/services.lua");

/// It has no head, since it uses no shard.
pub(crate) static LAYOUT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/layout.lua")));
