//! Resolvers: from what recipes ask to what the lock pins. They use the network and write nothing but their answer.

mod debian;
mod npm;

pub(crate) use debian::{Indexes, debian};
pub(crate) use npm::npm;
