//! Codes of the `recipe` area.

codes! {
}
