//! Codes of the `oci` area.

codes! {
    IO = "oci/io", User, "a file operation on an image or its layers failed",
        "The operating system refused an operation while a layer was read, written or unpacked, or an image was exported. The message says which and why; permissions and a read-only disk are the usual reasons.";
    FULL = "oci/disk-full", User, "no space left for an image",
        "The disk that a layer is unpacked on, or an image is exported to, has no space (or no inodes) left. What was being written was discarded; what was there before is intact.";
    LAYER_INVALID = "oci/layer-invalid", Verification, "a layer is malformed or hostile",
        "A layer's tar cannot be unpacked faithfully: it is damaged, or holds entries that lead out of the root, links to what is not there, or types that layers do not have. Nothing outside its own directory was touched.";
    LAYER_LIMIT = "oci/layer-limit", Verification, "a layer is larger than layers may be",
        "A layer has more entries or more data than any image needs, as archives made to exhaust a machine have. Unpacking stopped there.";
    LAYER_OVERLAY = "oci/overlay-feature", User, "a file tree uses overlay features that have no layer form",
        "The kernel recorded a rename or a metadata-only change in an overlay's upper directory (`redirect_dir` or `metacopy`). clawbuild turns both off on the mounts it makes; a tree mounted otherwise cannot become a layer.";
    LAYOUT_INVALID = "oci/layout-invalid", User, "not an OCI image layout",
        "The directory or archive has no `oci-layout` and `index.json` of a known version, or one of its documents cannot be parsed.";
    NOT_FOUND = "oci/image-not-found", User, "the layout holds no such image",
        "No manifest in the layout has the tag, or is for the platform, that was asked for. The message lists what there is.";
    MISMATCH = "oci/content-mismatch", Verification, "an image's content is not what its descriptors say",
        "A blob's bytes do not have the digest or length its descriptor gives, a layer's content does not have the diff ID the image config gives, or their numbers differ. The image is damaged or was tampered with.";
}
