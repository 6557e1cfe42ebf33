//! The scripts: all that is ever done to a shard. Each file opens with its contract.

use redis::Script;
use std::sync::LazyLock;

/// The script in a file, behind the common head.
macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(include_str!("scripts/head.lua"), include_str!($file)))
        })
    };
}

pub(crate) static REGISTER: LazyLock<Script> = script!("scripts/register.lua");
pub(crate) static KEEP_ALIVE: LazyLock<Script> = script!("scripts/keep_alive.lua");
pub(crate) static DEREGISTER: LazyLock<Script> = script!("scripts/deregister.lua");
pub(crate) static LOAD: LazyLock<Script> = script!("scripts/load.lua");
pub(crate) static OPEN: LazyLock<Script> = script!("scripts/open.lua");
pub(crate) static INSPECT: LazyLock<Script> = script!("scripts/inspect.lua");
pub(crate) static SERVICES: LazyLock<Script> = script!("scripts/services.lua");

/// It is about no shard, so it is without the head.
pub(crate) static LAYOUT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/layout.lua")));
