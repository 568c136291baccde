//! File trees as chains of changes.

use oci::{Descriptor, DiffId, Digest};
use serde::{Deserialize, Serialize};
use store::{Key, Store};

use super::snapshot::{self, SnapshotId};

/// A file tree: sets of changes laid over each other, lowest first. The empty chain is the empty tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Chain(Vec<Link>);

/// One set of changes in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    pub(crate) part: Part,
    // What it was made on top of, where that is not simply everything below. Its layer is what it changed there, so a
    // tree that was merged onto a base has the same layer on every base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lower: Option<Vec<Part>>,
}

/// Changes, and where they lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// A directory of the store.
    Snapshot(SnapshotId),
    /// A layer of an image. It is unpacked only when somebody has to see its files; merging and exporting do not.
    Layer(ImageLayer),
}

/// A layer that came with an image and leaves with its blob unchanged. The blob lies in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageLayer {
    /// Identifies this layer together with those below it in its image. Spec: OCI image-spec config.md §Layer ChainID.
    pub(crate) chain_id: Digest,
    /// The digest of the uncompressed tar.
    pub(crate) diff_id: DiffId,
    /// The blob.
    pub(crate) blob: Descriptor,
}

impl ImageLayer {
    /// Whether its image has nothing below it.
    pub(crate) fn is_lowest(&self) -> bool {
        self.chain_id == self.diff_id.0
    }

    /// Whether `parent` lies directly below it in its image.
    pub(crate) fn is_above(&self, parent: &Self) -> bool {
        self.chain_id == chain_id(&parent.chain_id, self.diff_id)
    }
}

fn chain_id(parent: &Digest, diff_id: DiffId) -> Digest {
    Digest::of(format!("{parent} {diff_id}"))
}

impl Chain {
    /// The tree of an image with these layers, lowest first.
    pub(crate) fn of_image(layers: impl IntoIterator<Item = (DiffId, Descriptor)>) -> Self {
        let mut parent: Option<Digest> = None;
        let links = layers.into_iter().map(|(diff_id, blob)| {
            let chain_id = match parent {
                None => diff_id.0,
                Some(parent) => chain_id(&parent, diff_id),
            };
            parent = Some(chain_id);
            Link { part: Part::Layer(ImageLayer { chain_id, diff_id, blob }), lower: None }
        });
        Self(links.collect())
    }

    /// This tree with the changes that were made on top of it.
    pub(crate) fn with(&self, snapshot: SnapshotId) -> Self {
        let mut links = self.0.clone();
        links.push(Link { part: Part::Snapshot(snapshot), lower: None });
        Self(links)
    }

    /// Changes by themselves, and what they are changes to.
    pub(crate) fn of_changes(lower: &Self, snapshot: SnapshotId) -> Self {
        Self(vec![Link { part: Part::Snapshot(snapshot), lower: Some(lower.parts().cloned().collect()) }])
    }

    /// These trees over each other, the first lowest.
    pub(crate) fn merged<'a>(chains: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut links: Vec<Link> = Vec::new();
        for chain in chains {
            if links.is_empty() {
                links.clone_from(&chain.0);
            } else {
                links.extend((0..chain.0.len()).map(|position| chain.standing_alone(position)));
            }
        }
        Self(links)
    }

    /// What lies above `lower`, if this tree was made on top of it.
    pub(crate) fn above(&self, lower: &Self) -> Option<Self> {
        let is_below = lower.0.len() <= self.0.len() && lower.parts().eq(self.parts().take(lower.0.len()));
        is_below.then(|| Self((lower.0.len()..self.0.len()).map(|position| self.standing_alone(position)).collect()))
    }

    /// The link, saying itself what it was made on top of.
    fn standing_alone(&self, position: usize) -> Link {
        let part = self.0[position].part.clone();
        let lower = match &part {
            Part::Layer(_) => None,
            Part::Snapshot(_) => Some(self.lower(position)),
        };
        Link { part, lower }
    }

    /// What the link at this position was made on top of.
    pub(crate) fn lower(&self, position: usize) -> Vec<Part> {
        let link = &self.0[position];
        link.lower.clone().unwrap_or_else(|| self.parts().take(position).cloned().collect())
    }

    /// The sets of changes, lowest first.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.0.iter().map(|link| &link.part)
    }

    /// The uppermost set of changes, if it is a snapshot.
    pub(crate) fn last_snapshot(&self) -> Option<SnapshotId> {
        match self.0.last()?.part {
            Part::Snapshot(id) => Some(id),
            Part::Layer(_) => None,
        }
    }

    /// What steps that take this tree as an input are keyed by. What its links were made on top of has no part in it:
    /// a snapshot was made once.
    pub(crate) fn identity(&self) -> Key {
        let parts = self.parts().map(|part| match part {
            Part::Snapshot(id) => format!("snapshot {id}"),
            Part::Layer(layer) => format!("layer {}", layer.chain_id),
        });
        let parts: Vec<String> = std::iter::once("chain".to_owned()).chain(parts).collect();
        Key::of(parts.iter().map(String::as_bytes))
    }

    /// Whether everything that is needed to see the tree, and to make layers of it, is still there.
    pub(crate) fn is_present(&self, store: &Store) -> bool {
        self.0.iter().flat_map(|link| link.lower.iter().flatten().chain([&link.part])).all(|part| match part {
            Part::Snapshot(id) => snapshot::at(store, *id).fs().is_dir(),
            Part::Layer(layer) => store.blob_size(&layer.blob.digest) == Some(layer.blob.size),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> SnapshotId {
        SnapshotId::random().expect("random")
    }

    fn image(layers: &[&str]) -> Chain {
        let blob = |text: &&str| (DiffId(Digest::of(text)), Descriptor::of(oci::media_type::LAYER, text.as_bytes()));
        Chain::of_image(layers.iter().map(blob))
    }

    fn ids(chain: &Chain) -> Vec<Digest> {
        let id = |part: &Part| match part {
            Part::Layer(layer) => layer.chain_id,
            Part::Snapshot(id) => panic!("{id} is no layer"),
        };
        chain.parts().map(id).collect()
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        assert_eq!(ids(&image(&["a", "b"])), [a, Digest::of(format!("{a} {b}"))]);
    }

    #[test]
    fn changes_remember_what_they_were_made_on() {
        let (base, other) = (image(&["a"]), image(&["b", "c"]));
        let (first, second) = (snapshot(), snapshot());
        let tree = base.with(first).with(second);
        let changes = tree.above(&base).expect("it was made on it");
        assert_eq!(changes.parts().collect::<Vec<_>>(), [&Part::Snapshot(first), &Part::Snapshot(second)]);

        let moved = Chain::merged([&other, &changes]);
        let below: Vec<Part> = base.parts().cloned().collect();
        assert_eq!(moved.lower(2), below);
        assert_eq!(moved.lower(3), [below, vec![Part::Snapshot(first)]].concat());
        // Put back on what it came from, it is what it was.
        assert_eq!(Chain::merged([&base, &changes]).identity(), tree.identity());
        assert_eq!(base.above(&tree), None);
        assert_eq!(tree.above(&Chain::default()).expect("everything is made on nothing").identity(), tree.identity());

        let text = serde_json::to_string(&moved).expect("serialises");
        assert_eq!(serde_json::from_str::<Chain>(&text).expect("parses"), moved);
    }

    #[test]
    fn trees_made_of_nothing_keep_nothing_below_them() {
        let made = Chain::default().with(snapshot());
        let merged = Chain::merged([&image(&["a"]), &made]);
        assert_eq!(merged.lower(1), []);
        assert_ne!(merged.identity(), made.identity());
    }
}
