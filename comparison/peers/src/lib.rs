//! The registry's view beside what others keep their services in: see `benches`.
