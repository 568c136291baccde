//! The user and mount namespaces the whole process lives in.
