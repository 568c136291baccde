//! Running one command in namespaces of its own.
