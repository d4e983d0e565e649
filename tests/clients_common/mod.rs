//! What only tests of programs that call ssh need.

pub mod ansible;
