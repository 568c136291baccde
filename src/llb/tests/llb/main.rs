//! What the crate promises, checked from outside.
#![allow(missing_docs, reason = "a test binary has no readers of its docs")]

mod arbitrary;
mod dockerfile;
mod dumps;
mod graphs;
mod oracle;
mod strictness;
