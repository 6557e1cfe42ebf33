//! Every byte that a server reads, by what the client sent.

mod encode;
mod frames;
mod limits;
mod property;

use super::{Connection, LIMIT, check, repair};
