//! Typed signatures, the operators, and the Task trait.
