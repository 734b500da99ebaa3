//! A whole Spark network on one machine
