//! Layer bytes: the deterministic tar form, compression, and differences between file trees.
