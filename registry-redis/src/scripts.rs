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

/// Makes a script of its parts.
macro_rules! script {
    ($($file:literal)+) => {
        LazyLock::new(|| Script::new(concat!($(include_str!(concat!("scripts/", $file, ".lua"))),+)))
    };
}

pub(crate) static REGISTER: LazyLock<Script> =
    script!("register_fast" "head" "whole" "deadline" "register");
pub(crate) static HOLDER: LazyLock<Script> = script!("head" "whole" "holder");
pub(crate) static KEEP_ALIVE: LazyLock<Script> =
    script!("keep_alive_fast" "head" "whole" "deadline" "keep_alive");
pub(crate) static DEREGISTER: LazyLock<Script> = script!("head" "deregister");
pub(crate) static FIND_RECORD: LazyLock<Script> = script!("head" "whole" "expiry" "find_record");
pub(crate) static LOAD: LazyLock<Script> = script!("head" "whole" "load");
pub(crate) static READ_LOG: LazyLock<Script> = script!("head" "whole" "expiry" "read_log");
pub(crate) static SERVICES: LazyLock<Script> = script!("head" "whole" "services");

// These have no common head, since they change no shard.
pub(crate) static INSPECT: LazyLock<Script> = script!("inspect");
pub(crate) static LAYOUT: LazyLock<Script> = script!("layout");
