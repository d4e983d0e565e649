//! What the tests share. `common` and `pooled` are the benchmarks' too, which name them by path.

pub mod agents;
pub mod ansible;
pub mod common;
pub mod documents;
pub mod fake;
pub mod faulty;
pub mod few_sessions;
pub mod itself;
pub mod pooled;
pub mod python;
pub mod random;
