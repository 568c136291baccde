//! Codes of the `plan` area.

codes! {}
