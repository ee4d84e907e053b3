//! Umbrella
