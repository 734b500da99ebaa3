//! Key custody: sealed shares, nonces, tweaks, deletion
