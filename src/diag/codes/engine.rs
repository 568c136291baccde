//! Codes of the `engine` area.

codes! {
}
