//! OCI image layouts on disk and in tar archives.
