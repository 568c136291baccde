//! Codes of the `registry` area.

codes! {
}
