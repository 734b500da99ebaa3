//! The agreement engine: votes, certificates, refusals
