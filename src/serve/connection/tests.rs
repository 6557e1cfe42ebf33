//! Tests of the bytes that a server reads for the bytes that a client sends.

mod encode;
mod frames;
mod limits;
mod property;

use super::{Connection, LIMIT, check, repair};
