"""Pure maths on arrays: numpy, scipy and scikit-image; no state, no torch."""
