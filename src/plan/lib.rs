//! The build plan: locked recipes to stages, and stages to LLB.
