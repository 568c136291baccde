//! Progress renderers.
