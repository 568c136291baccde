//! Codes of the `oci` area.

codes! {
}
