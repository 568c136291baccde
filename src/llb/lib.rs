//! BuildKit LLB: typed vertices, deterministic definitions, capabilities, source maps.
