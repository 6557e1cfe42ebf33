//! The Lua scripts. Only they change a shard. Each file begins with its contract.

use std::sync::LazyLock;

/// A script, and its read-only version if it has one.
pub(crate) struct Script {
    pub(crate) owner: Text,
    pub(crate) reader: Option<Text>,
}

/// The code of a script and its SHA-1, by which a server knows a script that it has run.
pub(crate) struct Text {
    pub(crate) code: &'static str,
    pub(crate) sha1: String,
}

impl Text {
    fn new(code: &'static str) -> Self {
        Self { code, sha1: redis::Script::new(code).get_hash().to_owned() }
    }
}

/// Concatenates the code of a script.
macro_rules! text {
    ($($file:literal)+) => {
        Text::new(concat!($(include_str!(concat!("scripts/", $file, ".lua"))),+))
    };
}

/// Defines a script for owners, and optionally its version for readers.
macro_rules! script {
    ($($file:literal)+) => {
        LazyLock::new(|| Script { owner: text!($($file)+), reader: None })
    };
    ($($file:literal)+; $($of_reader:literal)+) => {
        LazyLock::new(|| Script {
            owner: text!($($file)+),
            reader: Some(text!($($of_reader)+)),
        })
    };
}

pub(crate) static REGISTER: LazyLock<Script> =
    script!("register_fast" "head" "whole" "deadline" "register");
pub(crate) static HOLDER: LazyLock<Script> = script!("head" "whole" "holder"; "reader" "holder");
pub(crate) static KEEP_ALIVE: LazyLock<Script> =
    script!("keep_alive_fast" "head" "whole" "deadline" "keep_alive");
pub(crate) static DEREGISTER: LazyLock<Script> = script!("head" "deregister");
pub(crate) static FIND_RECORD: LazyLock<Script> =
    script!("head" "whole" "expiry" "find_record"; "reader" "find_record");
pub(crate) static LOAD: LazyLock<Script> =
    script!("head" "whole" "load" "load_reply"; "reader" "load" "hide_expired" "load_reply");
pub(crate) static READ_LOG: LazyLock<Script> =
    script!("head" "whole" "expiry" "read_log"; "reader" "read_log");
pub(crate) static SERVICES: LazyLock<Script> =
    script!("head" "whole" "services"; "reader" "services");

// These do not include `head`, since they change no shard.
pub(crate) static INSPECT: LazyLock<Script> = script!("inspect"; "inspect");
pub(crate) static LAYOUT: LazyLock<Script> = script!("layout"; "layout_read");
