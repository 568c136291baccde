//! Codes of the `lock` area.

codes! {
}
