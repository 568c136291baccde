//! Recipes, bases and the lock file: text to typed values with spans.
