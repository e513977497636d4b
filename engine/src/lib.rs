//! The pure core: plan, advance, eager, text and render.
