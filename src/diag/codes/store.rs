//! Codes of the `store` area.

codes! {
    IO = "store/io", User, "a file operation in the store failed",
        "The operating system refused an operation on the store's directory. The message says which and why; permissions and a read-only disk are the usual reasons.";
    FULL = "store/full", User, "no space left for the store",
        "The disk that holds the store has no space (or no inodes) left. What was being written was discarded; what was there before is intact. `clawbuild cache du` shows what the store holds and `clawbuild cache prune` frees it.";
    FORMAT = "store/format", User, "the store has another format",
        "The store was written by a clawbuild whose on-disk layout differs. Stores are never converted in place: point `--store` (or `CLAWBUILD_STORE`) at another directory or remove the old one.";
    BUSY = "store/busy", Transient, "the store is in use",
        "Pruning needs the store to itself: what another clawbuild is about to use must not be removed under it. Nothing was changed. Try again when the builds that run have ended.";
    MISMATCH = "store/mismatch", Verification, "content is not what its digest says",
        "Bytes that arrived, or that lay in the store, do not have the digest they are known by. They were discarded. A broken transfer is the usual reason; if it comes again, the source is not what was locked.";
    MISSING = "store/missing", User, "content is not in the store",
        "Something refers to content that the store no longer holds, as after pruning. Building again brings it back.";
}
