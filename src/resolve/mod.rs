//! Resolvers: from what recipes ask to what the lock pins. They use the network and write nothing but their answer.

mod debian;
mod git;
mod npm;
mod release;

pub(crate) use debian::{Indexes, debian};
pub(crate) use git::commit;
pub(crate) use npm::npm;
pub(crate) use release::release;
