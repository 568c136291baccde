//! Results of the same op on other trees that look the same to it.
//!
//! Where an op reads only a part of a tree, another tree with the same part gives the same result. Reading those parts
//! just to have a key would cost a first build as much as copying them. So what is written down is on which trees an op
//! was done; only when it is asked for on new ones are old and new parts read, and each of them once.

use std::sync::Arc;

use llb::Op;
use oci::Digest;
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, StoreError};

use super::chain::Chain;
use super::content::{self, Relevance, Selection};
use super::key;
use super::record::Outputs;
use super::solver::Solve;
use crate::error::VertexError;

/// As many earlier trees are remembered for an op.
const REMEMBERED: usize = 8;

/// An op that reads only parts of some of its trees.
#[derive(Debug)]
pub(crate) struct Alike {
    // Covers the op, and its other trees.
    key: Key,
    parts: Vec<(Chain, Vec<Selection>)>,
}

/// The trees an op was done on: those it reads only parts of, and the key its result is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Earlier {
    trees: Vec<Chain>,
    result: String,
}

impl Alike {
    /// `None` if it reads all its trees as a whole.
    pub(crate) fn of(domain: &str, digest: &Digest, op: &Op, trees: &[Chain]) -> Option<Self> {
        let mut words = vec!["alike".to_owned(), digest.to_string()];
        let mut parts = Vec::new();
        for (tree, relevance) in trees.iter().zip(Relevance::of_inputs(op, trees.len())) {
            match relevance {
                Relevance::Identity => words.push(tree.identity().hex()),
                Relevance::Content(selections) => {
                    words.push("part".to_owned());
                    parts.push((tree.clone(), selections));
                }
            }
        }
        let key = key::in_domain(domain, &Key::of(words.iter().map(String::as_bytes)));
        (!parts.is_empty()).then_some(Self { key, parts })
    }

    /// The result of an earlier run on trees whose parts are the same.
    ///
    /// # Errors
    /// [`VertexError`] where these trees cannot be seen. Earlier ones that cannot be are passed over.
    pub(crate) async fn find(&self, solve: &Arc<Solve>, outputs: usize) -> Result<Option<Outputs>, VertexError> {
        let store = &solve.workshop.store;
        let earlier: Vec<Earlier> = store.record(Bucket::Vertices, &self.key).unwrap_or_default();
        for Earlier { trees, result } in earlier.iter().rev() {
            let Ok(result) = Digest::from_hex(result) else { continue };
            // A result that can be relied on was made of trees that can be.
            let Some(outputs) = solve.workshop.records.find(&Key::from(result), outputs) else { continue };
            let usable = trees.len() == self.parts.len() && trees.iter().all(|tree| tree.is_present(store));
            if usable && self.matches(solve, trees).await? {
                return Ok(Some(outputs));
            }
        }
        Ok(None)
    }

    async fn matches(&self, solve: &Arc<Solve>, trees: &[Chain]) -> Result<bool, VertexError> {
        for ((new, selections), old) in self.parts.iter().zip(trees) {
            if new == old {
                continue;
            }
            let expected = content::of_chain(solve, new, selections).await?;
            match content::of_chain(solve, old, selections).await {
                Ok(found) if found == expected => {}
                Err(VertexError::Canceled) => return Err(VertexError::Canceled),
                Ok(_) | Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Writes down that the op was done on these trees, and that `result` is the key its result is known by. One of two
    /// processes that do so at the same moment may be forgotten.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn remember(&self, solve: &Solve, result: &Key) -> Result<(), StoreError> {
        let store = &solve.workshop.store;
        let now = Earlier { trees: self.parts.iter().map(|(tree, _)| tree.clone()).collect(), result: result.hex() };
        let mut earlier: Vec<Earlier> = store.record(Bucket::Vertices, &self.key).unwrap_or_default();
        earlier.retain(|earlier| earlier.result != now.result);
        earlier.push(now);
        let first = earlier.len().saturating_sub(REMEMBERED);
        store.put_record_unsynced(Bucket::Vertices, &self.key, &earlier[first..].to_vec())
    }
}
