//! Debian archives: signatures, dependency resolution, packages, root filesystem assembly.
