//! Codes of the `debian` area.

codes! {
}
