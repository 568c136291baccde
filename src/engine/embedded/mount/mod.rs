//! Chains of snapshots made visible as one file tree.
