//! Package and image registries over HTTP: checksummed downloads, distribution-spec pull and push.
