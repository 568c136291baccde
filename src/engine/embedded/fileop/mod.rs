//! File operations on a tree: copy, make, remove, as BuildKit does them.
